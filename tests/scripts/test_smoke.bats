#!/usr/bin/env bats
load test_helper

# bats test_tags=slow
@test "make smoke: from demo data to a report, and the policy learned" {
  OUTPUT=$BATS_TEST_TMPDIR/smoke
  mkdir -p "$OUTPUT/train/checkpoints/last"
  # Settings for other targets must not reach it.
  export OVERRIDES=training.steps=1 GPUS=7 CONFIG=/nothing DATA=/nothing RESUME=1
  run --separate-stderr make -C "$REPO" --no-print-directory smoke OUTPUT="$OUTPUT"
  [ "$status" -eq 0 ] || fail "$output $stderr"
  assert_says "world_size=2"
  [[ $output =~ held-out\ chunk\ MAE:\ [0-9.]+\ trained,\ [0-9.]+\ untrained ]] || fail "$output"
  assert_says ": learned"
  [ "${lines[-1]}" = "report: $OUTPUT/report.html" ]
  [ -s "$OUTPUT/report.html" ] && [ -f "$OUTPUT/dataset/meta/info.json" ]
  [ -f "$OUTPUT/train/checkpoints/best/pretrained_model/model.safetensors" ]
  [ -f "$OUTPUT/eval/summary.json" ] && [ -f "$OUTPUT/eval/all_episodes.parquet" ]

  # The same policy with black images is clearly worse: it looks at them.
  env CHECKPOINT="$OUTPUT/train" DATA="$OUTPUT/dataset" OUTPUT="$OUTPUT/blind" \
    "$REPO/scripts/eval.sh" --blackout-images
  run "$REPO/.venv/bin/python" - "$OUTPUT" <<'PYTHON'
import json, pathlib, sys
blind, sighted = (
    json.loads(pathlib.Path(sys.argv[1], folder, "summary.json").read_text())["chunk_mae"]["overall"]
    for folder in ("blind", "eval")
)
print(f"blind {blind:.4f} sighted {sighted:.4f}")
sys.exit(blind < 1.2 * sighted)
PYTHON
  [ "$status" -eq 0 ] || fail "$output"
}
