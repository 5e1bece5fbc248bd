#!/usr/bin/env bash
# Summary: write the demo dataset, a small LeRobot v3.0 one of a UR10e that reaches for a target
# Usage: demo.sh [ARGUMENT OF ur10e_act.dataset.demo ...]
#   OUTPUT  folder to write, which must not be there yet (outputs/demo)
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

OUTPUT=${OUTPUT:-$ROOT/outputs/demo}

python=$(project_python)
exec "$python" -m ur10e_act.dataset.demo --output "$OUTPUT" "$@"
