"""A small summary.json as offline_eval.py writes it: two joints, chunks of three steps, two episodes."""

import json
from pathlib import Path
from typing import Any

JOINTS = ("elbow", "gripper")


def errors(overall: float | None) -> dict[str, Any]:
    return {"overall": overall, "per_joint": dict.fromkeys(JOINTS, overall)}


def example_summary() -> dict[str, Any]:
    """The policy's chunk error is 0.1, holding's 0.2, that of the mean action 0.4."""
    return {
        "created": "2026-01-02T03:04:05+00:00",
        "checkpoint": {
            "path": "/outputs/train/checkpoints/000100/pretrained_model",
            "fingerprint": "c0ffee",
            "step": 100,
            "init_checkpoint": None,
            "train_config": {"data": {"roots": ["/data"]}},
        },
        "dataset": {
            "roots": ["/data"],
            "fingerprint": "beef",
            "robot_type": "ur10e",
            "fps": 30,
            "cameras": {"observation.images.wrist": [48, 64]},
            "trained_on": True,
        },
        "held_out": True,
        "episodes": [4, 5],
        "num_episodes": 2,
        "num_frames": 7,
        "joints": list(JOINTS),
        "units": "dataset units",
        "mode": "batched",
        "settings": {
            "start_frame": 0,
            "num_steps": None,
            "batch_size": 16,
            "n_action_steps": 1,
            "temporal_ensemble_coeff": None,
            "latency_frames": 3,
            "latency_warmup_frames": 1,
        },
        "blackout_images": False,
        "mae": {**errors(0.05), "baselines": {"hold_position": errors(0.01), "mean_action": errors(0.3)}},
        "chunk_mae": {
            **errors(0.1),
            "valid_steps": 15,
            "baselines": {"hold_position": errors(0.2), "mean_action": errors(0.4)},
            "by_offset": {
                "offset": [1, 2, 3],
                "frames": [7, 5, 3],
                "policy": [0.05, 0.1, 0.15],
                "hold_position": [0.01, 0.2, 0.4],
                "mean_action": [0.3, 0.4, 0.5],
            },
        },
        "baseline_definitions": {"hold_position": "the current state", "mean_action": "the mean action"},
        "per_episode": [
            {"episode": 4, "frames": 4, "mae": 0.04, "chunk_mae": 0.09},
            {"episode": 5, "frames": 3, "mae": 0.06, "chunk_mae": 0.11},
        ],
        "latency_ms": {"mean": 11.0, "p50": 10.0, "p95": 12.9, "p99": 13.0, "max": 13.0, "samples": [10.0]},
        "realtime": {
            "keeps_up": True,
            "fps": 30,
            "period_ms": 33.3,
            "calls_over_period": 0,
            "judged_by": "p99",
        },
        "device": "CPU, 1 thread",
        "versions": {"torch": "2.14.1", "lerobot": "0.3.2"},
    }


def write_summary(directory: Path, summary: dict[str, Any]) -> Path:
    """Write summary.json into the directory; returns the directory."""
    (directory / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return directory


def write_metrics(folder: Path) -> Path:
    """metrics.jsonl as train.py writes it: resumed at step 20, and killed while writing its last line."""
    lines = [{"type": "val", "step": 0, "val_l1": 0.9, "val_mae": 0.8, "val_mae_per_joint": {}}]
    for step in (10, 20, 30, 20, 30, 40):
        lines.append({"type": "train", "step": step, "l1_loss": 5 / step, "samples_per_s": 100.0})
    lines.append({"type": "val", "step": 40, "val_l1": 0.3, "val_mae": 0.2, "val_mae_per_joint": {}})
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"type": "tr')
    return folder
