"""checkpoint.py: what it writes, that every LeRobot version acts alike on it, and that no kill harms it."""

import copy
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from lerobot.policies.act.modeling_act import ACTPolicy
from policy_examples import (
    CHUNK_SIZE,
    as_lerobot_expects,
    padded_batch,
    rename_camera,
    small_dataset,
    tiny_config,
    tiny_policy,
)
from safetensors.torch import load_file

from ur10e_act.config import load_config
from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset
from ur10e_act.errors import UserError
from ur10e_act.policy.act import ACTLoss, load_weights, optimizer_groups, statistics
from ur10e_act.policy.checkpoint import (
    find_checkpoint,
    fingerprint,
    load_dataset_info,
    load_training_state,
    rng_state,
    save_checkpoint,
    set_rng_state,
    write_pretrained,
)

REFERENCE = ROOT / "tests" / "reference" / "checkpoint_actions.py"
INFO = {"fps": 30, "train_episodes": [0, 1]}
CAMERAS = ("observation.images.top", "observation.images.wrist_left")


@pytest.fixture(scope="module")
def dataset(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> LeRobotV3Dataset:
    """The sample with a camera name with `_`, for which LeRobot's own migration loses the statistics."""
    root = tmp_path_factory.mktemp("data") / "renamed"
    return small_dataset(rename_camera(sample_root, root, "observation.images.wrist", CAMERAS[1]))


@pytest.fixture(scope="module")
def policy(dataset: LeRobotV3Dataset) -> ACTPolicy:
    return tiny_policy(dataset, tiny_config())


def write(folder: Path, dataset: LeRobotV3Dataset, *normalization: str) -> ACTPolicy:
    config = tiny_config(*normalization)
    policy = tiny_policy(dataset, config)
    write_pretrained(folder, policy, config, INFO)
    return policy


def test_folder_holds_the_files_of_all_versions(dataset, tmp_path):
    policy = write(tmp_path, dataset, "MEAN_STD", "MIN_MAX", "IDENTITY")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "dataset_info.json",
        "model.safetensors",
        "policy_postprocessor.json",
        "policy_preprocessor.json",
        "policy_preprocessor_step_3_normalizer_processor.safetensors",
        "train_config.yaml",
    ]
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["type"], config["device"], config["pretrained_backbone_weights"]) == ("act", "cpu", None)
    assert config["push_to_hub"] is False, "lerobot-train would ask for a repo_id"
    assert list(config["input_features"]) == ["observation.state", *CAMERAS]
    # lerobot 0.3.2 refuses fields it does not know, so there must be none of later versions.
    assert not {"use_peft", "pretrained_path", "pretrained_revision"} & config.keys()

    stats = statistics(policy)
    written = load_file(tmp_path / "policy_preprocessor_step_3_normalizer_processor.safetensors")
    assert sorted(written) == sorted(
        ["observation.state.min", "observation.state.max"]
        + [f"{camera}.{name}" for camera in CAMERAS for name in ("mean", "std")]
    )
    for key, value in written.items():
        feature, _, name = key.rpartition(".")
        assert torch.equal(value, stats[feature][name])
        assert value.dtype == torch.float32


def test_processors_are_written_as_lerobot_writes_them(dataset, tmp_path):
    write(tmp_path, dataset, "MEAN_STD", "MIN_MAX", "MEAN_STD")
    norm_map = {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"}
    action = {"action": {"type": "ACTION", "shape": [7]}}
    features = {
        "observation.state": {"type": "STATE", "shape": [7]},
        **{camera: {"type": "VISUAL", "shape": [3, 48, 64]} for camera in CAMERAS},
        **action,
    }
    to_cpu = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
    assert json.loads((tmp_path / "policy_preprocessor.json").read_text()) == {
        "name": "policy_preprocessor",
        "steps": [
            {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
            {"registry_name": "to_batch_processor", "config": {}},
            to_cpu,
            {
                "registry_name": "normalizer_processor",
                "config": {"eps": 1e-08, "features": features, "norm_map": norm_map},
                "state_file": "policy_preprocessor_step_3_normalizer_processor.safetensors",
            },
        ],
    }
    assert json.loads((tmp_path / "policy_postprocessor.json").read_text()) == {
        "name": "policy_postprocessor",
        "steps": [
            {
                "registry_name": "unnormalizer_processor",
                "config": {"eps": 1e-08, "features": action, "norm_map": norm_map},
                "state_file": "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
            },
            to_cpu,
        ],
    }
    written = load_file(tmp_path / "policy_postprocessor_step_0_unnormalizer_processor.safetensors")
    assert sorted(written) == ["action.mean", "action.std"]


def test_identity_throughout_needs_no_statistics(dataset, tmp_path):
    write(tmp_path, dataset, "IDENTITY", "IDENTITY", "IDENTITY")
    assert not list(tmp_path.glob("policy_*.safetensors"))
    assert "state_file" not in (tmp_path / "policy_preprocessor.json").read_text()


def test_configuration_and_dataset_come_back(dataset, tmp_path):
    config = tiny_config("MEAN_STD", "MIN_MAX", "IDENTITY", kl_weight=2.5)
    write_pretrained(tmp_path, tiny_policy(dataset, config), config, INFO)
    assert load_config(tmp_path / "train_config.yaml") == config
    assert load_dataset_info(tmp_path) == INFO


MIXTURES = [
    ("MEAN_STD", "MEAN_STD", "MEAN_STD"),
    ("MIN_MAX", "MIN_MAX", "MIN_MAX"),
    ("IDENTITY", "IDENTITY", "IDENTITY"),
    ("MEAN_STD", "MIN_MAX", "IDENTITY"),
    ("IDENTITY", "MEAN_STD", "MIN_MAX"),
]


@pytest.mark.parametrize("normalization", MIXTURES, ids="/".join)
def test_stock_lerobot_032_acts_as_the_saved_policy(dataset, tmp_path, normalization):
    policy = write(tmp_path, dataset, *normalization)
    batch = as_lerobot_expects(padded_batch(dataset))
    assert torch.equal(
        ACTPolicy.from_pretrained(tmp_path).predict_action_chunk(batch), policy.predict_action_chunk(batch)
    )


def stock_actions(python: str, dataset: LeRobotV3Dataset, tmp_path: Path, folders: list[Path]) -> list:
    """What stock LeRobot under ``python`` makes of the checkpoints ``folders``."""
    batch = padded_batch(dataset)
    observations = tmp_path / "observations.npz"
    np.savez(observations, **{key: batch[key].numpy() for key in ("observation.state", *dataset.cameras)})
    command = [python, REFERENCE, observations, tmp_path, *folders]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=600)
    return [np.load(tmp_path / f"{folder.name}.npz") for folder in folders]


@pytest.fixture(scope="module")
def mixtures(dataset, tmp_path_factory) -> tuple[list[Path], list]:
    """Checkpoints of all MIXTURES, and their actions in stock lerobot 0.3.2."""
    root = tmp_path_factory.mktemp("mixtures")
    folders = [root / "-".join(normalization) for normalization in MIXTURES]
    for folder, normalization in zip(folders, MIXTURES, strict=True):
        write(folder, dataset, *normalization)
    return folders, stock_actions(sys.executable, dataset, tmp_path_factory.mktemp("stock"), folders)


@pytest.mark.slow
def test_later_lerobot_acts_bit_for_bit_as_032(later_lerobot, dataset, mixtures, tmp_path):
    version, python = later_lerobot
    folders, stock = mixtures
    for folder, expected, actions in zip(
        folders, stock, stock_actions(python, dataset, tmp_path, folders), strict=True
    ):
        assert (str(expected["version"]), str(actions["version"])) == ("0.3.2", version)
        assert expected["chunks"].shape == (4, CHUNK_SIZE, 7)
        for name in ("chunks", "actions"):
            assert np.array_equal(expected[name], actions[name]), f"{name} with {folder.name}"


def save(output: Path, step: int, policy: ACTPolicy, best: bool = False, keep: int = 0, **state) -> Path:
    return save_checkpoint(output, step, policy, tiny_config(), INFO, {"step": step, **state}, best, keep)


def names(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "checkpoints").iterdir())


def test_links_follow_the_newest_and_the_best(policy, tmp_path):
    assert save(tmp_path, 10, policy, best=True) == tmp_path / "checkpoints" / "000010"
    save(tmp_path, 20, policy)
    assert names(tmp_path) == ["000010", "000020", "best", "last"]
    assert os.readlink(tmp_path / "checkpoints" / "best") == "000010"
    assert os.readlink(tmp_path / "checkpoints" / "last") == "000020"
    assert load_training_state(tmp_path / "checkpoints" / "last") == {"step": 20}


def test_old_checkpoints_go_but_never_last_or_best(policy, tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, policy, best=step == 1, keep=2)
    assert names(tmp_path) == ["000001", "000003", "000004", "best", "last"]
    save(tmp_path, 1_000_000, policy, keep=1)
    assert names(tmp_path) == ["000001", "1000000", "best", "last"]
    # A run resumed from an older step: its checkpoint is the last one, though not the highest.
    save(tmp_path, 5, policy, best=True, keep=1)
    assert names(tmp_path) == ["000005", "1000000", "best", "last"]


@pytest.fixture
def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that cannot exchange two names."""
    monkeypatch.setattr("ur10e_act.atomic_io.exchange", lambda first, second: False)


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchanges(request: pytest.FixtureRequest) -> bool:
    """Whether the file system can exchange two names: a test runs with both."""
    if not request.param:
        request.getfixturevalue("without_exchange")
    return request.param


@pytest.mark.usefixtures("exchanges")
def test_a_checkpoint_of_the_same_step_is_replaced(policy, tmp_path):
    save(tmp_path, 1, policy, best=True, run="first")
    save(tmp_path, 1, policy, run="second")
    assert names(tmp_path) == ["000001", "best", "last"]
    for link in ("best", "last"):
        assert os.readlink(tmp_path / "checkpoints" / link) == "000001"
        assert load_training_state(tmp_path / "checkpoints" / link)["run"] == "second"


def test_no_standby_is_copied_where_names_can_be_exchanged(policy, tmp_path, monkeypatch):
    save(tmp_path, 1, policy, best=True)
    monkeypatch.setattr(shutil, "copytree", None)
    save(tmp_path, 1, policy, run="second")
    assert load_training_state(tmp_path / "checkpoints" / "best")["run"] == "second"


def test_everything_is_on_disk_before_the_folder_gets_its_name(policy, tmp_path, monkeypatch):
    synced, at_rename = set(), []
    fsync, rename = os.fsync, os.rename

    def recording_fsync(descriptor):
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def recording_rename(source, target):
        at_rename.append((Path(source), set(synced)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "rename", recording_rename)
    folder = save(tmp_path, 1, policy)
    ((source, synced_before),) = at_rename
    content = {source / path.relative_to(folder) for path in [folder, *folder.rglob("*")]}
    assert len(content) == 1 + 2 + 9
    assert {str(path) for path in content} <= synced_before
    assert str(folder.parent) in synced


def test_a_full_disk_is_one_clear_error_and_harms_nothing(policy, tmp_path):
    """First model.safetensors grows too large for the limit on file sizes, then the training state."""
    save(tmp_path, 1, policy)
    model = tmp_path / "checkpoints" / "000001" / "pretrained_model" / "model.safetensors"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = {"optimizer": torch.zeros(model.stat().st_size // 4 + 1000)}
    try:
        for limit in (1_000_000, model.stat().st_size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
            with pytest.raises(UserError, match=r"000002: the checkpoint cannot be saved"):
                save(tmp_path, 2, policy, **state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.readlink(tmp_path / "checkpoints" / "last") == "000001"
    save(tmp_path, 2, policy)
    assert names(tmp_path) == ["000001", "000002", "last"]


EVENTS = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "shutil.copyfile"}


def save_and_die_at(event: int, output: Path, saves: list[tuple[int, bool]], policy: ACTPolicy) -> bool:
    """Make ``saves`` (step, best) in a child process, killed before its ``event``-th change to the folder.

    Returns whether it was killed; False means that it had fewer events and finished.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            left = event

            def count(name, arguments):
                nonlocal left
                if name in EVENTS and str(output) in str(arguments):
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
            for step, best in saves:
                save(output, step, policy, best=best, keep=1)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def complete(checkpoint: Path, policy: ACTPolicy) -> int:
    """The step of a checkpoint, every file of which must be readable."""
    pretrained = find_checkpoint(checkpoint)
    stored = load_file(pretrained / "model.safetensors")
    assert stored.keys() == policy.state_dict().keys()
    for name in ("policy_preprocessor", "policy_postprocessor"):
        for step in json.loads((pretrained / f"{name}.json").read_text())["steps"]:
            if "state_file" in step:
                load_file(pretrained / step["state_file"])
    assert load_config(pretrained / "train_config.yaml") == tiny_config()
    assert load_dataset_info(pretrained) == INFO
    return load_training_state(pretrained.parent)["step"]


@pytest.fixture
def light_policy(policy: ACTPolicy) -> ACTPolicy:
    """A policy of some kB, so that it can be saved hundreds of times."""
    light = copy.deepcopy(policy)
    light.model.backbone = torch.nn.Identity()
    return light


@pytest.mark.slow
@pytest.mark.parametrize(
    ("saves", "last_steps", "best_steps"),
    [
        ([(2, True), (3, False)], {1, 2, 3}, {1, 2}),
        ([(1, True)], {1}, {1}),
    ],
    ids=["new steps", "the step that the links name"],
)
def test_killed_at_any_moment_leaves_last_and_best_complete(
    light_policy, tmp_path, exchanges, saves, last_steps, best_steps
):
    event = 0
    killed = True
    while killed:
        event += 1
        output = tmp_path / str(event)
        save(output, 1, light_policy, best=True, keep=1)
        killed = save_and_die_at(event, output, saves, light_policy)
        checkpoints = output / "checkpoints"
        assert complete(checkpoints / "last", light_policy) in last_steps, event
        assert complete(checkpoints / "best", light_policy) in best_steps, event
        for path in checkpoints.glob("[0-9]*"):
            assert complete(path, light_policy) == int(path.name), event
        save(output, 4, light_policy, best=True, keep=1)
        assert names(output) == ["000004", "best", "last"], event
        assert complete(checkpoints / "best", light_policy) == 4
    # One save that exchanges directories copies no standby, and has fewer steps.
    fewest = 30 if exchanges and len(saves) == 1 else 50
    assert event > fewest, "the kills must have come between the steps of a save"


@pytest.mark.slow
@pytest.mark.usefixtures("without_exchange")
def test_killed_while_recovering_from_a_killed_replacement(light_policy, tmp_path):
    """The worst case: dead between the two renames of a replacement, and dead again in the next clean-up."""
    broken, event = tmp_path / "broken", 0
    while not broken.exists() or (broken / "checkpoints" / "000001").exists():
        event += 1
        shutil.rmtree(broken, ignore_errors=True)
        save(broken, 1, light_policy, best=True, keep=1)
        assert save_and_die_at(event, broken, [(1, True)], light_policy)
    assert os.readlink(broken / "checkpoints" / "last") == ".standby-000001"

    event, killed = 0, True
    while killed:
        event += 1
        output = tmp_path / str(event)
        shutil.copytree(broken, output, symlinks=True)
        killed = save_and_die_at(event, output, [(2, False)], light_policy)
        for link in ("last", "best"):
            assert complete(output / "checkpoints" / link, light_policy) in (1, 2), event
        save(output, 3, light_policy, best=True, keep=1)
        assert names(output) == ["000003", "best", "last"], event
    assert event > 50


def test_find_checkpoint_takes_what_a_user_would_name(policy, tmp_path):
    save(tmp_path, 1, policy, best=True)
    save(tmp_path, 2, policy)
    checkpoints = (tmp_path / "checkpoints").resolve()
    first, second = (checkpoints / name / "pretrained_model" for name in ("000001", "000002"))
    assert find_checkpoint(second) == second
    assert find_checkpoint(checkpoints / "000002") == second
    assert find_checkpoint(str(checkpoints / "last")) == second
    assert find_checkpoint(checkpoints / "best" / "pretrained_model") == first
    assert find_checkpoint(tmp_path) == find_checkpoint(checkpoints) == first
    (checkpoints / "best").unlink()
    assert find_checkpoint(tmp_path) == second


def test_find_checkpoint_says_what_is_wrong(policy, tmp_path):
    with pytest.raises(UserError, match="nowhere: not found"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no checkpoint in it"):
        find_checkpoint(tmp_path)
    folder = save(tmp_path, 1, policy)
    (folder / "pretrained_model" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        find_checkpoint(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        find_checkpoint(folder / "pretrained_model" / "config.json")
    (tmp_path / "dangling").symlink_to("gone")
    with pytest.raises(UserError, match="the link leads nowhere"):
        find_checkpoint(tmp_path / "dangling")


def test_training_state_says_what_is_wrong(policy, tmp_path):
    folder = save(tmp_path, 1, policy)
    state = folder / "training_state" / "state.pt"
    state.write_bytes(state.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"state\.pt: cannot be read"):
        load_training_state(folder)
    state.unlink()
    with pytest.raises(UserError, match=r"state\.pt: not found"):
        load_training_state(folder)
    with pytest.raises(UserError, match=r"dataset_info\.json: cannot be read"):
        load_dataset_info(folder)


def test_fingerprint_is_that_of_what_acts(dataset, policy, tmp_path):
    one, other = save(tmp_path / "a", 1, policy), save(tmp_path / "b", 2, policy)
    assert fingerprint(one / "pretrained_model") == fingerprint(other / "pretrained_model")
    assert len(fingerprint(one / "pretrained_model")) == 64
    third = save(tmp_path / "c", 1, tiny_policy(dataset, tiny_config(), seed=1))
    assert fingerprint(third / "pretrained_model") != fingerprint(one / "pretrained_model")


def draws() -> tuple:
    return random.random(), np.random.rand(), np.random.randn(), torch.rand(3).tolist(), random.gauss(0, 1)


def test_rng_state_survives_the_file(policy, tmp_path):
    draws()
    folder = save(tmp_path, 1, policy, rng=[rng_state()])
    expected = draws()
    draws()
    set_rng_state(load_training_state(folder)["rng"][0])
    assert draws() == expected


def test_optimizer_and_schedule_survive_the_file(dataset, tmp_path):
    """One step, save, one step, against: a new process's policy, load, one step."""

    def training(policy):
        optimizer = torch.optim.AdamW(optimizer_groups(policy, 1e-3, 1e-4), weight_decay=1e-4)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def step(policy, optimizer, schedule):
        ACTLoss(policy)(padded_batch(dataset))["loss"].backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    one = tiny_policy(dataset, tiny_config())
    optimizer, schedule = training(one)
    step(one, optimizer, schedule)
    state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "rng": rng_state()}
    folder = save(tmp_path, 1, one, **state)
    step(one, optimizer, schedule)

    other = tiny_policy(dataset, tiny_config(), seed=5)
    load_weights(other, find_checkpoint(folder))
    optimizer, schedule = training(other)
    loaded = load_training_state(folder)
    optimizer.load_state_dict(loaded["optimizer"])
    schedule.load_state_dict(loaded["schedule"])
    set_rng_state(loaded["rng"])
    step(other, optimizer, schedule)
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_saving_changes_neither_policy_nor_generators(dataset, tmp_path):
    config = tiny_config()
    policy = tiny_policy(dataset, config)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    generators = rng_state()
    save_checkpoint(tmp_path, 1, policy, config, INFO, {"step": 1}, best=True, keep=1)
    assert policy.training
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    after = rng_state()
    assert torch.equal(after.pop("torch"), generators.pop("torch"))
    assert after == generators
