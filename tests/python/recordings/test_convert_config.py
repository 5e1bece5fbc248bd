"""convert_config.py: the defaults, and what is refused."""

from pathlib import Path

import pytest
from conftest import ROOT

from ur10e_act.config import ConfigError
from ur10e_act.recordings.convert_config import CameraConfig, ConvertConfig, load_convert_config


def test_the_default_configuration_says_the_defaults(tmp_path: Path) -> None:
    config = load_convert_config(ROOT / "python" / "convert.yaml")
    camera = {"top": CameraConfig("/camera/color/image_raw/compressed")}
    assert config == ConvertConfig(task=config.task, cameras=camera)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fpz=3", "fpz: unknown key; did you mean fps?"),
        ("cameras.top.topik=/a", "cameras.top.topik: unknown key; did you mean topic?"),
        ("fps=0", "fps: 0 must be at least 1"),
        ("task=''", "task: say in words"),
        ("joints.signs=[1, 2, 1, 1, 1, 1]", "joints.signs"),
        ("action.mode=command", "action.topic"),
        ("cameras.top.resize=[31, 32]", "even numbers"),
        ("gripper.joint=a", "gripper"),
    ],
)
def test_a_bad_configuration_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_convert_config(ROOT / "python" / "convert.yaml", [override])
    assert message in str(error.value)
