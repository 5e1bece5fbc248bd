"""Whether a checkpoint fits a dataset."""

import json

from tiny_checkpoint import write_tiny_checkpoint

from ur10e_act.dataset.lerobot_dataset import open_dataset
from ur10e_act.evaluation.matching import describe_order, differences
from ur10e_act.policy.runner import PolicyRunner


def test_missing_camera_and_other_image_size_are_named(sample_root, tmp_path):
    trained = write_tiny_checkpoint(tmp_path / "train", sample_root)
    runner = PolicyRunner.from_pretrained(trained, "cpu")
    info = json.loads((trained / "checkpoints/000100/pretrained_model/dataset_info.json").read_text())
    one_camera = open_dataset([sample_root], cameras=["observation.images.wrist"])
    assert differences(runner, info, True, one_camera) == [
        "camera observation.images.top: the dataset has observation.images.wrist"
    ]
    # Trained on images as recorded, the policy cannot take others.
    assert differences(runner, info, False, open_dataset([sample_root])) == [
        f"camera observation.images.{name}: the checkpoint reads 48x64 px, the dataset has 240x320"
        for name in ("top", "wrist")
    ]


def test_orders_of_joints_are_compared_in_words():
    assert describe_order(["a", "b"], ("a", "b")) is None
    assert describe_order(["a", "b"], ["b", "a"]) == (
        "the same joints in another order (checkpoint: a, b; dataset: b, a)"
    )
    assert describe_order(["a", "b"], ["a", "c", "d"]) == (
        "the checkpoint has 2, the dataset 3; not in the dataset: b; not in the checkpoint: c, d"
    )
