#!/usr/bin/env bash
# Summary: turn the outputs of training and evaluation into one page, report.html
# Usage: report.sh [ARGUMENT OF report.py ...]
#   TRAIN   training output (outputs/train)
#   EVAL    evaluation output (outputs/eval)
#   REPORT  the page (outputs/report.html)
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

TRAIN=${TRAIN:-$ROOT/outputs/train}
EVAL=${EVAL:-$ROOT/outputs/eval}
REPORT=${REPORT:-$ROOT/outputs/report.html}

python=$(project_python)
exec "$python" "$ROOT/python/report.py" --train "$TRAIN" --eval "$EVAL" --output "$REPORT" "$@"
