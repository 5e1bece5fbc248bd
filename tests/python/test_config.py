"""config.py: what is read, what is refused, and with which words."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from ur10e_act.config import Config, ConfigError, load_config, save_config

CONFIG = ROOT / "python" / "config.yaml"


def test_config_yaml_states_the_defaults() -> None:
    assert load_config(CONFIG) == Config()


def test_defaults_are_lerobots() -> None:
    from lerobot.policies.act.configuration_act import ACTConfig

    ours, theirs = Config(), ACTConfig(device="cpu")
    for name in vars(ours.model):
        if name != "normalization":
            assert getattr(ours.model, name) == getattr(theirs, name), name
    modes = {kind.upper(): mode for kind, mode in vars(ours.model.normalization).items()}
    assert modes == {kind: mode.value for kind, mode in theirs.normalization_mapping.items()}
    assert ours.training.lr == theirs.optimizer_lr
    assert ours.training.lr_backbone == theirs.optimizer_lr_backbone
    assert ours.training.weight_decay == theirs.optimizer_weight_decay


def test_overrides_apply_in_order_and_survive_saving(tmp_path: Path) -> None:
    overrides = [
        "training.lr=1e-3",
        "training.lr=5e-5",
        "data.roots=/data/a b",
        "data.image_size=[96, 128]",
        "model.normalization.state=MIN_MAX",
        "data.held_out_episodes=[3, 1]",
    ]
    config = load_config(CONFIG, overrides)
    assert config.training.lr == 5e-5
    assert config.data.roots == ("/data/a b",)
    assert config.data.image_size == (96, 128)
    assert config.model.normalization.state == "MIN_MAX"
    assert config.data.held_out_episodes == (3, 1)
    save_config(config, tmp_path / "train_config.yaml")
    assert load_config(tmp_path / "train_config.yaml") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=1", "training.learning_rate: unknown key"),
        ("training.stepz=1", "training.stepz: unknown key; did you mean steps?"),
        ("modle.chunk_size=1", "modle: unknown key; did you mean model?"),
        ("training.lr=fast", "training.lr: expected a number, got 'fast'"),
        ("training.lr=.nan", "training.lr: expected a number"),
        ("training.lr=-1", "training.lr: -1.0 must be above 0"),
        ("training.steps=10.5", "training.steps: expected a whole number"),
        ("training.steps=true", "training.steps: expected a whole number"),
        ("training.bf16=1", "training.bf16: expected true or false"),
        ("model.chunk_size=0", "model.chunk_size: 0 must be at least 1"),
        ("model.n_action_steps=101", "model.n_action_steps: 101 is above model.chunk_size (100)"),
        ("model.temporal_ensemble_coeff=0.01", "model.n_action_steps: must be 1"),
        ("model.n_heads=7", "model.dim_model: 512 is not a multiple"),
        ("model.normalization.action=mean", "model.normalization.action: expected one of MEAN_STD, MIN_MAX"),
        ("data.image_size=[96]", "data.image_size: expected a list of 2 whole numbers or null"),
        ("data.image_size=[8, 8]", "data.image_size: [8, 8] is below"),
        ("data.held_out_fraction=1", "data.held_out_fraction: 1.0 must be below 1"),
        ("data.held_out_episodes=[]", "data.held_out_episodes: the list is empty"),
        ("data.episodes=[1, 1]", "data.episodes: names one entry twice"),
        ("training.warmup_steps=100000", "training.warmup_steps: 100000 leaves nothing"),
        ("logging.wandb=true", "logging.wandb_project: needed"),
        ("steps=5", "write it as section.key=value"),
        ("training.steps", "write it as section.key=value"),
        ("training.steps=[", "the value is not YAML"),
    ],
)
def test_a_bad_value_is_one_line_that_names_file_and_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"{CONFIG}: ")) as caught:
        load_config(CONFIG, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {steps: [", "not valid YAML at line"),
        ("- 1", "expected keys and values"),
        ("training: 5", "training: expected keys and values"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
        load_config(path)
    assert message in str(caught.value)


def test_an_empty_or_partial_file_means_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("training:\n")
    assert load_config(path) == Config()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing.yaml: cannot be read"):
        load_config(tmp_path / "missing.yaml")
