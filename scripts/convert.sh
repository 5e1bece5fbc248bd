#!/usr/bin/env bash
# Summary: convert ROS 2 recordings to a LeRobot v3.0 dataset; later runs on the same output add what is new
# Usage: convert.sh [OPTION OF rosbag_to_lerobot.py ...]
#   BAGS            folder of recordings
#   OUTPUT          folder of the dataset (outputs/dataset)
#   CONVERT_CONFIG  what to make of them (python/convert.yaml); `make inspect BAGS=DIR` proposes one
#   WORKERS         recordings at a time (one a core)
#   STRICT=1        convert nothing unless every recording is whole
#   RECOVER=1       take what a killed recorder left: a cut .mcap up to its cut, recordings without metadata.yaml
#   OVERRIDES       changes to the configuration, e.g. "fps=15 action.mode=delta"
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

[[ -n ${BAGS:-} ]] || die "BAGS is not set: name the folder of recordings"
OUTPUT=${OUTPUT:-$ROOT/outputs/dataset}
CONVERT_CONFIG=${CONVERT_CONFIG:-$ROOT/python/convert.yaml}

options=(--bags "$BAGS" --output "$OUTPUT" --config "$CONVERT_CONFIG")
if [[ -n ${WORKERS:-} ]]; then
  need_count WORKERS
  options+=(--workers "$WORKERS")
fi
if [[ -n ${STRICT:-} ]]; then
  options+=(--strict)
fi
if [[ -n ${RECOVER:-} ]]; then
  options+=(--recover)
fi
set -f # overrides may hold * and [
for override in ${OVERRIDES:-}; do
  options+=(--override "$override")
done
set +f

# Each process converts one recording on one core; the library's threads would only get in each other's way.
export OMP_NUM_THREADS=1
python=$(project_python)
exec "$python" "$ROOT/python/rosbag_to_lerobot.py" "${options[@]}" "$@"
