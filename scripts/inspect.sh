#!/usr/bin/env bash
# Summary: print what a ROS 2 recording holds, and a configuration for converting it
# Usage: inspect.sh [RECORDING]
#   BAGS  the recording, or a folder of them, of which the first is taken
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

BAGS=${1:-${BAGS:-}}
[[ -n $BAGS ]] || die "BAGS is not set: name a recording"
python=$(project_python)
exec "$python" "$ROOT/python/rosbag_to_lerobot.py" --inspect "$BAGS"
