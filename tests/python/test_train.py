"""train.py: through its command line, in one process and under torchrun."""

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from train import learning_rate_factor, train
from ur10e_act.config import Config, load_config
from ur10e_act.errors import UserError
from ur10e_act.training import distributed
from ur10e_act.training.metrics import MetricsLogger
from ur10e_act.training.resume import find_start

TINY = """
data: {image_size: [32, 48], held_out_episodes: [5], num_workers: 0}
model: {chunk_size: 6, n_action_steps: 6, pretrained_backbone_weights: null, dim_model: 32, n_heads: 2,
        dim_feedforward: 64, n_encoder_layers: 1, latent_dim: 4, n_vae_encoder_layers: 1}
training: {steps: 6, batch_size: 4, lr: 1e-4, lr_backbone: 1e-4, device: cpu, warmup_steps: 2,
           schedule: cosine, keep_checkpoints: 0}
logging: {log_every: 2, tensorboard: false}
"""


@pytest.fixture
def tiny(tmp_path: Path, sample_root: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("{image_size", f"{{roots: ['{sample_root}'], image_size"))
    return path


def tiny_config(tiny: Path, output: Path, *overrides: str) -> Config:
    return load_config(tiny, [f"training.output_dir={output}", *overrides])


def run_here(config: Config, resume: bool = False) -> list[dict[str, Any]]:
    """Train in this process; the records of metrics.jsonl."""
    with distributed.process_group("cpu") as world:
        train(config, world, resume)
    return records(Path(config.training.output_dir))


def run_cli(
    tiny: Path, output: Path, *overrides: str, ranks: int = 1, resume: bool = False, **environment: str
):
    """Train as a user does; the finished process."""
    launcher = (
        ["-m", "ur10e_act.training.torchrun_launcher", "--standalone", f"--nproc-per-node={ranks}"]
        if ranks > 1
        else []
    )
    command = [sys.executable, *launcher, ROOT / "python" / "train.py", "--config", tiny]
    for override in (f"training.output_dir={output}", *overrides):
        command += ["--override", override]
    return subprocess.run(
        [*map(str, command), *(["--resume"] if resume else [])],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def weights(output: Path, step: str = "last") -> dict[str, torch.Tensor]:
    return load_file(output / "checkpoints" / step / "pretrained_model" / "model.safetensors")


def cut_off_after(run: Path, step: int, copy: Path) -> Path:
    """``run`` as it looked when it was killed shortly after saving ``step``."""
    shutil.copytree(run, copy, symlinks=True)
    for folder in (copy / "checkpoints").iterdir():
        if folder.name.isdigit() and int(folder.name) > step:
            shutil.rmtree(folder)
    last = copy / "checkpoints" / "last"
    last.unlink()
    last.symlink_to(f"{step:06d}")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"type": "train", "st')
    return copy


def assert_same_run(run: Path, other: Path) -> None:
    """Both runs ended with the same weights, optimizer and random states, bit for bit."""
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    states = [
        (folder / "checkpoints" / "last" / "training_state" / "state.pt").resolve() for folder in (run, other)
    ]
    left, right = (torch.load(state, weights_only=True) for state in states)
    assert repr(left) == repr(right)
    for name, slot in left["optimizer"]["state"].items():
        for key, value in slot.items():
            assert torch.equal(value, right["optimizer"]["state"][name][key])


def test_one_process_writes_checkpoints_metrics_and_its_configuration(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = tiny_config(
        tiny, output, "training.val_every=2", "training.save_every=3", "logging.tensorboard=true"
    )
    logged = run_here(config)
    assert [record["step"] for record in logged if record["type"] == "val"] == [0, 2, 4, 6]
    assert [record["step"] for record in logged if record["type"] == "train"] == [2, 4, 6]
    checkpoints = output / "checkpoints"
    assert (checkpoints / "last").resolve().name == "000006"
    best = min(
        (record for record in logged[1:] if record["type"] == "val"), key=lambda record: record["val_mae"]
    )
    assert (checkpoints / "best").resolve().name == f"{best['step']:06d}"
    assert load_config(checkpoints / "last" / "pretrained_model" / "train_config.yaml") == config
    assert list((output / "tensorboard").iterdir())
    joints = logged[0]["val_mae_per_joint"]
    assert list(joints) == [
        "shoulder_pan",
        "shoulder_lift",
        "elbow",
        "wrist_1",
        "wrist_2",
        "wrist_3",
        "gripper",
    ]
    assert sum(joints.values()) / len(joints) == pytest.approx(logged[0]["val_mae"])


def test_a_resumed_run_ends_as_one_that_was_not_stopped(tiny: Path, tmp_path: Path) -> None:
    overrides = (
        "training.save_every=2",
        "training.val_every=3",
        "data.image_transforms=true",
        "training.gradient_accumulation_steps=2",
        "training.batch_size=27",
        "data.num_workers=1",
    )
    whole = tmp_path / "whole"
    logged = run_here(tiny_config(tiny, whole, *overrides))
    for step in (2, 4):
        resumed = cut_off_after(whole, step, tmp_path / f"resumed-{step}")
        torch.manual_seed(step)
        again = run_here(tiny_config(tiny, resumed, *overrides), resume=True)
        assert_same_run(whole, resumed)
        timings = {"samples_per_s", "data_s", "step_s"}
        shown = [[{k: v for k, v in r.items() if k not in timings} for r in run] for run in (logged, again)]
        assert shown[0] == shown[1]


@pytest.mark.slow
def test_a_resumed_run_of_two_ranks_ends_as_one_that_was_not_stopped(tiny: Path, tmp_path: Path) -> None:
    overrides = ("training.save_every=2", "data.image_transforms=true", "data.num_workers=1")
    whole = tmp_path / "whole"
    done = run_cli(tiny, whole, *overrides, ranks=2)
    assert done.returncode == 0, done.stderr
    resumed = cut_off_after(whole, 4, tmp_path / "resumed")
    done = run_cli(tiny, resumed, *overrides, ranks=2, resume=True)
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, resumed)
    done = run_cli(tiny, cut_off_after(whole, 4, tmp_path / "alone"), *overrides, resume=True)
    assert done.returncode == 0, done.stderr
    assert "resumed with 1 ranks instead of 2" in done.stdout


@pytest.mark.slow
def test_two_ranks_train_as_one_process_with_the_joined_batch(tiny: Path, tmp_path: Path) -> None:
    # No dropout and no VAE: each rank has a random stream of its own.
    overrides = (
        *("model.use_vae=false", "model.dropout=0", "data.image_stats=dataset"),
        *("training.steps=4", "training.save_every=1"),
    )
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_cli(tiny, one, *overrides, "training.batch_size=8").returncode == 0
    done = run_cli(tiny, two, *overrides, "training.batch_size=4", ranks=2)
    assert done.returncode == 0, done.stderr
    for left, right in zip(records(one), records(two), strict=True):
        for key in left.keys() & {"loss", "l1_loss", "grad_norm", "val_l1", "val_mae", "epoch"}:
            assert left[key] == pytest.approx(right[key], rel=2e-4), (key, left["step"])
    start, ours, theirs = weights(one, "000001"), weights(one), weights(two)
    moved = sum((ours[name] - start[name]).abs().sum() for name in ours)
    apart = sum((ours[name] - theirs[name]).abs().sum() for name in ours)
    # Adam divides by the gradient's own size: where that is rounding noise, so is the step.
    assert apart < 1e-2 * moved


@pytest.mark.slow
def test_only_rank_0_writes(tiny: Path, tmp_path: Path) -> None:
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and isinstance(arguments[0], str) and os.environ['OUTPUT'] in arguments[0]:\n"
        "        if arguments[2] & (os.O_WRONLY | os.O_RDWR):\n"
        "            line = (os.environ['RANK'] + ' ' + arguments[0] + chr(10)).encode()\n"
        "            os.write(log, line)\n"
        "if 'RANK' in os.environ:\n"
        "    log = os.open(os.environ['OPENED'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "    sys.addaudithook(hook)\n"
    )
    output, opened = tmp_path / "run", tmp_path / "opened"
    done = run_cli(
        tiny,
        output,
        "training.steps=2",
        "training.warmup_steps=0",
        "logging.tensorboard=true",
        ranks=2,
        PYTHONPATH=f"{spy}{os.pathsep}{ROOT / 'python'}",
        OUTPUT=str(output),
        OPENED=str(opened),
    )
    assert done.returncode == 0, done.stderr
    lines = opened.read_text().splitlines()
    assert any("metrics.jsonl" in line for line in lines)
    assert any("config.json" in line for line in lines)
    assert {line.split()[0] for line in lines} == {"0"}
    assert len([line for line in done.stdout.splitlines() if line.startswith("train step=2/2 ")]) == 1


@pytest.mark.slow
def test_act_overfits_one_episode(tiny: Path, tmp_path: Path) -> None:
    config = tiny_config(
        tiny,
        tmp_path / "run",
        "data.episodes=[0, 5]",
        "training.steps=150",
        "training.lr=1e-3",
        "model.dim_model=64",
        "training.lr_backbone=1e-4",
        "training.batch_size=16",
        "model.dropout=0",
        "logging.log_every=10",
        "training.schedule=constant",
    )
    losses = [record["l1_loss"] for record in run_here(config) if record["type"] == "train"]
    assert losses[-1] < 0.2 * losses[0]


def test_fine_tuning_starts_from_the_checkpoints_weights(tiny: Path, tmp_path: Path) -> None:
    first = run_here(tiny_config(tiny, tmp_path / "first", "training.steps=3"))
    checkpoint = tmp_path / "first" / "checkpoints" / "last"
    tuned = run_here(
        tiny_config(tiny, tmp_path / "tuned", "training.steps=3", f"training.init_checkpoint={checkpoint}")
    )
    assert tuned[0]["val_mae"] == pytest.approx(first[-1]["val_mae"], rel=1e-6)
    assert tuned[0]["val_mae"] != pytest.approx(first[0]["val_mae"], rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.roots=[]"], "data.roots: names no dataset"),
        (["data.roots=/nowhere"], "/nowhere"),
        (["data.held_out_episodes=[17]"], "held_out_episodes names episode 17"),
        (["data.episodes=[0]"], "1 episode(s) cannot be divided"),
        (["data.episodes=[0, 1]", "data.held_out_episodes=[0, 1]"], "leaves no episode for training"),
        (["training.batch_size=1000"], "training.batch_size: 1000 samples a step"),
        (["training.init_checkpoint=/nowhere"], "/nowhere"),
        (["logging.wandb=true", "logging.wandb_project=x"], "logging.wandb: the package is not installed"),
        (["training.device=cuda"], "no CUDA device"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(
    tiny: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    if torch.cuda.is_available() and "training.device=cuda" in overrides:
        pytest.skip("this machine has a CUDA device")
    config = tiny_config(tiny, tmp_path / "run", *overrides)
    with pytest.raises(UserError) as caught, distributed.process_group(config.training.device) as world:
        train(config, world, resume=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_users_mistake_is_one_line_without_a_traceback(tiny: Path, tmp_path: Path) -> None:
    done = run_cli(tiny, tmp_path / "run", "data.roots=/nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_output_that_cannot_be_written_to_is_one_line(tiny: Path, ranks: int) -> None:
    """Rank 0 alone finds out; all ranks end."""
    done = run_cli(tiny, tiny / "run", ranks=ranks)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert f"{tiny / 'run'}: cannot be written to (Not a directory)" in lines[0]
    assert "Traceback" not in done.stderr


def test_a_full_disk_while_metrics_are_written_is_one_clear_error(tiny: Path, tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path, tiny_config(tiny, tmp_path), 0, None, enabled=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(UserError, match=r"metrics.jsonl: cannot be written to \(File too large\)"):
            for step in range(10):
                logger.log("train", step, {"loss": 1.0, "l1_loss": 1.0, "lr": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_run_is_neither_overwritten_nor_resumed_as_another(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = tiny_config(tiny, output, "training.steps=2", "training.warmup_steps=0")
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        find_start(config, resume=True)
    run_here(config)
    with pytest.raises(UserError, match="holds a run already; add --resume"):
        find_start(config, resume=False)
    other = tiny_config(tiny, output, "training.steps=4", "training.warmup_steps=0", "model.dim_model=64")
    with pytest.raises(UserError, match="model.dim_model is 64, but .* was trained with 32"):
        find_start(other, resume=True)
    longer = tiny_config(tiny, output, "training.steps=4", "training.warmup_steps=0")
    assert [record["step"] for record in run_here(longer, resume=True)] == [0, 2, 2, 4, 4]


def test_checkpoints_on_a_time_interval(tiny: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny, tmp_path / "run", "training.save_minutes=0.00001", "logging.log_every=2")
    run_here(config)
    names = {folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir() if folder.name.isdigit()}
    assert names == {"000002", "000004", "000006"}
    config = tiny_config(tiny, tmp_path / "later", "training.save_minutes=10", "logging.log_every=2")
    run_here(config)
    names = {
        folder.name for folder in (tmp_path / "later" / "checkpoints").iterdir() if folder.name.isdigit()
    }
    assert names == {"000006"}


def test_a_checkpoint_alone_has_the_metrics_up_to_it(tiny: Path, tmp_path: Path) -> None:
    first = run_here(tiny_config(tiny, tmp_path / "run", "training.save_every=4", "training.steps=4"))
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(tmp_path / "run" / "checkpoints", tmp_path / "elsewhere" / "checkpoints", symlinks=True)
    resumed = run_here(tiny_config(tiny, tmp_path / "elsewhere"), resume=True)
    assert resumed[: len(first)] == first
    assert resumed[-1]["step"] == 6


def test_diverged_training_stops_and_says_so(tiny: Path, tmp_path: Path) -> None:
    config = tiny_config(
        tiny, tmp_path / "run", "training.lr=1e30", "training.warmup_steps=0", "logging.log_every=1"
    )
    with pytest.raises(UserError, match=r"training diverged before step \d"):
        run_here(config)


def test_learning_rate_schedules() -> None:
    config = Config()
    training = dataclasses.replace(
        config.training, steps=100, warmup_steps=9, schedule="cosine", final_lr_fraction=0.1
    )
    config = dataclasses.replace(config, training=training)
    factors = [learning_rate_factor(config, step) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[9] == max(factors)
    assert factors[100] == pytest.approx(0.1)
    assert factors[9:] == sorted(factors[9:], reverse=True)
    constant = dataclasses.replace(config, training=dataclasses.replace(training, schedule="constant"))
    assert {learning_rate_factor(constant, step) for step in range(9, 101)} == {1.0}
