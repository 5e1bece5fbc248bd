#!/usr/bin/env bash
# Summary: measure converting recordings against encoding alone, seconds per GB of bag, and memory against length
# Usage: bench_convert.sh
#   ROUNDS  interleaved rounds; the medians are compared (3)
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

ROUNDS=${ROUNDS:-3}
need_count ROUNDS
python=$(project_python)
OMP_NUM_THREADS=1 exec "$python" "$ROOT/tests/python/bench_convert.py" "$ROUNDS"
