"""The policy over recorded frames."""

import dataclasses

from tiny_checkpoint import write_tiny_checkpoint

from ur10e_act.config import EvalConfig
from ur10e_act.dataset.lerobot_dataset import open_dataset
from ur10e_act.evaluation.inference import measure_latency
from ur10e_act.policy.runner import PolicyRunner


def test_latency_leaves_out_the_warm_up(sample_root, tmp_path):
    trained = write_tiny_checkpoint(tmp_path / "train", sample_root)
    runner = PolicyRunner.from_pretrained(trained, "cpu", n_action_steps=1)
    settings = dataclasses.replace(EvalConfig(), latency_frames=4, latency_warmup_frames=2)
    frames_by_episode = {2: range(3, 5), 5: range(0, 1)}
    times_ms = measure_latency(runner, open_dataset([sample_root]), frames_by_episode, settings, False)
    assert times_ms.shape == (4,)
    assert (times_ms > 0).all()
