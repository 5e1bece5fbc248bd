"""Judges a checkpoint on recorded episodes: error per joint and by chunk offset, trivial policies, latency.

Reads a checkpoint and LeRobot v3.0 datasets; writes, into one folder, ``episode_000.parquet`` ... (one row a
frame), ``all_episodes.parquet`` (the same rows) and ``summary.json``, which is removed first and put in place
last: where it exists, the folder is complete.

Columns: step (0, 1, ... within the evaluated part), frame_index (within the episode), timestamp (s),
episode_index, inference_time_s, and per joint J of the dataset's action: joint_position_J (the state of that
name, null where there is none), predicted_action_J, gt_action_J, abs_error_J, all in the dataset's units.

Modes: ``batched`` predicts a chunk at every frame and takes its first action (inference_time_s is the
batch's time divided by its frames); ``queue`` and ``ensemble`` step as the robot does (inference_time_s is
that step's). Errors by chunk offset come from a chunk at every frame in all modes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from tqdm import tqdm

from ur10e_act.atomic_io import sync
from ur10e_act.config import EvalConfig, load_config
from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset, open_dataset
from ur10e_act.errors import UserError, run_cli
from ur10e_act.policy.act import statistics
from ur10e_act.policy.checkpoint import find_checkpoint, fingerprint, load_dataset_info
from ur10e_act.policy.runner import STATE, PolicyRunner

SUMMARY = "summary.json"
ALL_EPISODES = "all_episodes.parquet"
STAGING_PREFIX = ".offline_eval-"


class AbsoluteErrors:
    """Streaming sums of |predicted - true| by chunk offset and joint, over the steps that exist.

    Held in float64 (chunk, A) and int64 (chunk,): the size does not depend on the number of frames.
    """

    def __init__(self, chunk_size: int, action_dim: int) -> None:
        self.total = np.zeros((chunk_size, action_dim))
        self.steps = np.zeros(chunk_size, dtype=np.int64)

    def add(self, predicted: np.ndarray, true: np.ndarray, valid: np.ndarray) -> None:
        """predicted (may broadcast), true: (n, chunk, A); valid: (n, chunk) bool, False for padding."""
        errors = np.abs(np.asarray(predicted, dtype=np.float64) - true)
        self.total += (errors * valid[:, :, None]).sum(axis=0)
        self.steps += valid.sum(axis=0)

    def per_joint(self) -> np.ndarray:
        """Mean over frames and offsets, (A,)."""
        return self.total.sum(axis=0) / self.steps.sum()

    def by_offset(self) -> np.ndarray:
        """Mean over frames and joints, (chunk,); NaN at offsets no evaluated frame reaches."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total.mean(axis=1) / self.steps


def plain(value: Any) -> Any:
    """``value`` as JSON knows it; NaN (not measured, not defined) becomes null."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def describe_order(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """How two lists of joint names differ, in words; None when they do not."""
    ours, theirs = list(ours), list(theirs)
    if ours == theirs:
        return None
    if sorted(ours) == sorted(theirs):
        order = f"checkpoint: {', '.join(ours)}; dataset: {', '.join(theirs)}"
        return f"the same joints in another order ({order})"
    lacking = [name for name in ours if name not in theirs]
    added = [name for name in theirs if name not in ours]
    parts = [f"the checkpoint has {len(ours)}, the dataset {len(theirs)}"] if len(ours) != len(theirs) else []
    if lacking:
        parts.append(f"not in the dataset: {', '.join(lacking)}")
    if added:
        parts.append(f"not in the checkpoint: {', '.join(added)}")
    return "; ".join(parts)


def differences(
    runner: PolicyRunner, info: dict[str, Any] | None, resized: bool, dataset: LeRobotV3Dataset
) -> list[str]:
    """What of a dataset, read as recorded, the checkpoint cannot be run on; empty when it fits.

    ``info`` is the checkpoint's dataset_info.json (None for checkpoints not trained here: only shapes can be
    compared). ``resized``: the policy was trained on resized images, so recorded sizes may differ.
    """
    found = []
    for what, ours, dim, theirs in (
        ("state joints", "state_names", runner.state_dim, dataset.state_names),
        ("action joints", "action_names", runner.action_dim, dataset.action_names),
    ):
        if info is not None and (words := describe_order(info[ours], theirs)):
            found.append(f"{what}: {words}")
        elif dim != len(theirs):
            found.append(f"{what}: the checkpoint has {dim}, the dataset {len(theirs)}")
    for camera, size in runner.image_shapes.items():
        if camera not in dataset.cameras:
            found.append(f"camera {camera}: the dataset has {', '.join(dataset.cameras) or 'none'}")
        elif not resized and tuple(dataset.image_shapes[camera]) != size:
            theirs = "x".join(map(str, dataset.image_shapes[camera]))
            found.append(
                f"camera {camera}: the checkpoint reads {size[0]}x{size[1]} px, the dataset has {theirs}"
            )
    if info is not None and info["fps"] != dataset.fps:
        found.append(f"fps: the checkpoint has {info['fps']}, the dataset {dataset.fps}")
    return found


def open_fitting(
    runner: PolicyRunner, pretrained: Path, info: dict[str, Any] | None, roots: Sequence[str]
) -> tuple[LeRobotV3Dataset, LeRobotV3Dataset]:
    """The dataset as recorded and as the policy was trained on it (its cameras, its image size).

    Raises UserError, in one line with every difference, when the checkpoint does not fit.
    """
    train_config = read_train_config(pretrained)
    image_size = train_config["data"].get("image_size") if train_config else None
    recorded = open_dataset(roots)
    found = differences(runner, info, image_size is not None, recorded)
    if found:
        raise UserError(f"{pretrained} does not fit {', '.join(map(str, roots))}: {'; '.join(found)}")
    if image_size is None and set(recorded.cameras) == set(runner.cameras):
        return recorded, recorded
    size = tuple(image_size) if image_size else None
    return recorded, open_dataset(roots, cameras=runner.cameras, image_size=size)


def read_train_config(pretrained: Path) -> dict[str, Any] | None:
    """The resolved configuration saved beside the weights; None for checkpoints not trained here."""
    path = pretrained / "train_config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None


def choose_episodes(
    requested: Sequence[int] | None, info: dict[str, Any] | None, dataset: LeRobotV3Dataset, same_data: bool
) -> list[int]:
    """The requested episodes, else the checkpoint's held-out ones, else all."""
    known = {episode.index for episode in dataset.episodes}
    if requested is not None:
        missing = [index for index in requested if index not in known]
        if missing:
            raise UserError(
                f"--episodes: {', '.join(map(str, missing))} not in the dataset, "
                f"which has {min(known)} to {max(known)}"
            )
        return sorted(set(requested))
    if same_data and info is not None and info["held_out_episodes"]:
        return sorted(info["held_out_episodes"])
    return sorted(known)


def are_held_out(episodes: Sequence[int], info: dict[str, Any] | None, same_data: bool) -> bool | str:
    """Whether training never saw any of the episodes; "unknown" when it was another dataset."""
    if info is None or not same_data:
        return "unknown"
    return not set(episodes) & set(info["train_episodes"])


def evaluated_frames(dataset: LeRobotV3Dataset, episode: int, start: int, steps: int | None) -> range:
    """Frame numbers within the episode. UserError when ``start`` lies past its end."""
    length = next(entry.length for entry in dataset.episodes if entry.index == episode)
    if start >= length:
        raise UserError(
            f"--start-frame {start}: episode {episode} has {length} frames; use less, or other --episodes"
        )
    return range(start, length if steps is None else min(length, start + steps))


def mean_training_action(
    runner: PolicyRunner, info: dict[str, Any] | None, dataset: LeRobotV3Dataset, same_data: bool
) -> np.ndarray | None:
    """Mean training action, (A,): from the policy's normalization, else from the training dataset."""
    normalization = statistics(runner.policy).get("action", {})
    if "mean" in normalization:
        return normalization["mean"].double().cpu().numpy()
    if info is None or not same_data:
        return None
    total, count = np.zeros(runner.action_dim), 0
    for episode in info["train_episodes"]:
        actions = dataset.read_actions(episode)
        total += actions.sum(axis=0, dtype=np.float64)
        count += len(actions)
    return total / count


class HoldPosition:
    """The trivial policy that keeps the joints where they are.

    Where actions are target positions, it is the current state of the joint of that name. Where they are
    changes of position, it is zero. Which of the two a joint has is told from the recorded motion: its
    action is nearer to the state, or to the state's change to the next frame.
    """

    def __init__(self, dataset: LeRobotV3Dataset, episode: int) -> None:
        names = list(dataset.state_names)
        self.columns = [names.index(name) if name in names else None for name in dataset.action_names]
        positions, actions = self.positions(dataset.read_states(episode)), dataset.read_actions(episode)
        self.relative = np.zeros(len(self.columns), dtype=bool)
        if len(actions) > 1:
            to_state = np.abs(actions - positions)[:-1].mean(axis=0)
            to_change = np.abs(actions[:-1] - np.diff(positions, axis=0)).mean(axis=0)
            self.relative = to_change < to_state

    def positions(self, states: np.ndarray) -> np.ndarray:
        """The state of every action's joint, float32 (n, A); NaN where the state has no such joint."""
        columns = [
            np.full(len(states), np.nan, dtype=np.float32) if column is None else states[:, column]
            for column in self.columns
        ]
        return np.stack(columns, axis=1)

    def actions(self, positions: np.ndarray) -> np.ndarray:
        """The holding actions, (n, A)."""
        return np.where(self.relative, np.float32(0), positions)


def read_observations(
    dataset: LeRobotV3Dataset,
    cameras: Sequence[str],
    episode: int,
    frames: Sequence[int],
    states: np.ndarray,
    blackout: bool,
) -> dict[str, np.ndarray]:
    """States (n, D) float32 and images (n, H, W, 3) uint8 of some frames, by full feature name."""
    batch = {STATE: states[list(frames)]}
    for camera in cameras:
        images = dataset.frames.read(camera, episode, frames)
        batch[camera] = np.zeros_like(images) if blackout else images
    return batch


def measure_latency(
    runner: PolicyRunner,
    dataset: LeRobotV3Dataset,
    plan: dict[int, range],
    settings: EvalConfig,
    blackout: bool,
) -> np.ndarray:
    """Times in ms of full model calls at batch 1, from the cameras' uint8 images to the action on the host.

    The frames are as recorded, so that resizing counts as it does on the robot; decoding does not count. The
    first ``latency_warmup_frames`` calls are made and dropped.
    """
    warmup, measured = settings.latency_warmup_frames, settings.latency_frames
    episodes, ends = list(plan), np.cumsum([len(frames) for frames in plan.values()])
    times = []
    # Spread evenly over the evaluated frames, so that the images differ as they do on the robot.
    for pick in np.linspace(0, ends[-1] - 1, warmup + measured).round().astype(int):
        at = int(np.searchsorted(ends, pick, side="right"))
        episode = episodes[at]
        frame = plan[episode][int(pick - ends[at])]
        states = dataset.read_states(episode)
        batch = read_observations(dataset, runner.cameras, episode, [frame], states, blackout)
        observation = {name: value[0] for name, value in batch.items()}
        # After a reset the queue is empty: every call runs the model. step() ends with the action on the
        # host, which waits for the device.
        runner.reset()
        start = time.perf_counter()
        runner.step(observation)
        times.append(time.perf_counter() - start)
    runner.reset()
    return np.array(times[warmup:]) * 1e3


def episode_table(
    dataset: LeRobotV3Dataset,
    episode: int,
    frames: range,
    seconds: np.ndarray,
    positions: np.ndarray,
    predicted: np.ndarray,
    true: np.ndarray,
) -> pa.Table:
    """The rows of one episode; see the module's docstring for the columns."""
    columns: dict[str, pa.Array] = {
        "step": pa.array(np.arange(len(frames), dtype=np.int64)),
        "frame_index": pa.array(np.asarray(frames, dtype=np.int64)),
        "timestamp": pa.array(dataset.read_timestamps(episode)[frames.start : frames.stop]),
        "episode_index": pa.array(np.full(len(frames), episode, dtype=np.int64)),
        "inference_time_s": pa.array(seconds),
    }
    for j, joint in enumerate(dataset.action_names):
        columns[f"joint_position_{joint}"] = pa.array(positions[:, j], from_pandas=True)
        columns[f"predicted_action_{joint}"] = pa.array(predicted[:, j])
        columns[f"gt_action_{joint}"] = pa.array(true[:, j])
        columns[f"abs_error_{joint}"] = pa.array(np.abs(predicted[:, j] - true[:, j]))
    return pa.table(columns)


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A hidden folder inside ``output`` whose files replace the earlier result when the block ends well.

    Inside, because ``output`` may be a mount that cannot be renamed. Files of other programs are left alone.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for leftover in output.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(leftover)
        staging = output / f"{STAGING_PREFIX}{os.getpid()}"
        staging.mkdir()
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror})") from None
    try:
        yield staging
        publish(staging, output)
    except OSError as error:
        raise UserError(f"--output {output}: writing failed ({error.strerror or error})") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, output: Path) -> None:
    """Move the staged files to ``output``: the old summary goes first, the new one comes last."""
    for path in staging.iterdir():
        sync(path)
    (output / SUMMARY).unlink(missing_ok=True)
    sync(output)
    for stale in [*output.glob("episode_*.parquet"), output / ALL_EPISODES]:
        stale.unlink(missing_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == SUMMARY):
        if path.name == SUMMARY:
            sync(output)
        os.replace(path, output / path.name)
    sync(output)


def evaluate(
    runner: PolicyRunner,
    dataset: LeRobotV3Dataset,
    plan: dict[int, range],
    settings: EvalConfig,
    blackout: bool,
    mean_action: np.ndarray | None,
    folder: Path,
) -> dict[str, Any]:
    """Run the policy over the planned frames, write the parquet files, return the errors for the summary.

    ``plan``: frame numbers by episode. Memory holds one episode's vectors and one batch of images at a time.
    """
    chunk_size, action_dim = runner.chunk_size, runner.action_dim
    hold = HoldPosition(dataset, next(iter(plan)))
    executed = AbsoluteErrors(1, action_dim)
    chunks = {
        name: AbsoluteErrors(chunk_size, action_dim) for name in ("policy", "hold_position", "mean_action")
    }
    mean = np.full(action_dim, np.nan) if mean_action is None else mean_action
    per_episode = []
    writer = None
    bar = tqdm(total=sum(map(len, plan.values())), unit="frame", disable=not sys.stderr.isatty())
    with bar, contextlib.ExitStack() as stack:
        for episode, frames in plan.items():
            states, actions = dataset.read_states(episode), dataset.read_actions(episode)
            positions = hold.positions(states)
            predicted = np.empty((len(frames), action_dim), dtype=np.float32)
            seconds = np.empty(len(frames))
            in_episode = AbsoluteErrors(chunk_size, action_dim)
            runner.reset()
            for first in range(0, len(frames), settings.batch_size):
                now = np.asarray(frames[first : first + settings.batch_size])
                rows = slice(first, first + len(now))
                batch = read_observations(dataset, runner.cameras, episode, now.tolist(), states, blackout)
                start = time.perf_counter()
                chunk = runner.predict_chunks(batch)
                elapsed = time.perf_counter() - start
                if not np.isfinite(chunk).all():
                    raise UserError(
                        f"the policy's actions are not finite in episode {episode}; did training diverge?"
                    )
                if settings.mode == "batched":
                    predicted[rows], seconds[rows] = chunk[:, 0], elapsed / len(now)
                else:
                    for row in range(len(now)):
                        start = time.perf_counter()
                        predicted[first + row] = runner.step(
                            {name: value[row] for name, value in batch.items()}
                        )
                        seconds[first + row] = time.perf_counter() - start
                steps = now[:, None] + np.arange(chunk_size)
                valid = steps < len(actions)
                true = actions[np.minimum(steps, len(actions) - 1)]
                in_episode.add(chunk, true, valid)
                chunks["policy"].add(chunk, true, valid)
                chunks["hold_position"].add(hold.actions(positions[now])[:, None], true, valid)
                chunks["mean_action"].add(mean[None, None], true, valid)
                bar.update(len(now))
            true_now = actions[frames.start : frames.stop]
            executed.add(predicted[:, None], true_now[:, None], np.ones((len(frames), 1), dtype=bool))
            table = episode_table(
                dataset, episode, frames, seconds, positions[frames.start : frames.stop], predicted, true_now
            )
            pq.write_table(table, folder / f"episode_{episode:03d}.parquet")
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(folder / ALL_EPISODES, table.schema))
            writer.write_table(table)
            mae = float(np.abs(predicted.astype(np.float64) - true_now).mean())
            chunk_mae = float(in_episode.per_joint().mean())
            per_episode.append(
                {"episode": episode, "frames": len(frames), "mae": mae, "chunk_mae": chunk_mae}
            )
            if bar.disable:
                print(
                    f"episode={episode} frames={len(frames)} mae={mae:.6g} chunk_mae={chunk_mae:.6g}",
                    flush=True,
                )

    joints = list(dataset.action_names)

    def figures(errors: AbsoluteErrors) -> dict[str, Any]:
        return {
            "overall": errors.per_joint().mean(),
            "per_joint": dict(zip(joints, errors.per_joint(), strict=True)),
        }

    def first_step(errors: AbsoluteErrors) -> dict[str, Any]:
        first = errors.total[0] / errors.steps[0]
        return {"overall": first.mean(), "per_joint": dict(zip(joints, first, strict=True))}

    trivial = ("hold_position", "mean_action")
    relative = [joint for joint, flag in zip(joints, hold.relative, strict=True) if flag]
    return {
        "mae": {**figures(executed), "baselines": {name: first_step(chunks[name]) for name in trivial}},
        "chunk_mae": {
            **figures(chunks["policy"]),
            "valid_steps": chunks["policy"].steps.sum(),
            "baselines": {name: figures(chunks[name]) for name in trivial},
            "by_offset": {
                "offset": list(range(1, chunk_size + 1)),
                "frames": chunks["policy"].steps,
                **{name: errors.by_offset() for name, errors in chunks.items()},
            },
        },
        "baseline_definitions": {
            "hold_position": "the current state of the joint of the same name"
            + (
                f"; zero for {', '.join(relative)}, whose actions are changes of position" if relative else ""
            ),
            "mean_action": "the mean action of the training episodes",
        },
        "per_episode": per_episode,
    }


def latency_figures(times_ms: np.ndarray, fps: int, mode: str) -> dict[str, Any]:
    """Figures of the measured calls, and whether they keep up with the dataset's fps."""
    period = 1e3 / fps
    p99 = float(np.percentile(times_ms, 99))
    when = {"queue": "the call that computes a chunk must fit"}.get(mode, "every step must fit")
    return {
        "latency_ms": {
            "mean": times_ms.mean(),
            **{f"p{q}": np.percentile(times_ms, q) for q in (50, 95, 99)},
            "max": times_ms.max(),
            "samples": times_ms.round(4),
        },
        "realtime": {
            "keeps_up": p99 <= period,
            "fps": fps,
            "period_ms": period,
            "calls_over_period": (times_ms > period).sum(),
            "judged_by": "p99 of full model calls at batch 1, preprocessing included, against a frame: "
            f"{when} one frame period",
        },
    }


def resolve_settings(args: argparse.Namespace, pretrained: Path) -> EvalConfig:
    """The eval section saved with the checkpoint (else the defaults), changed by the command line."""
    path = pretrained / "train_config.yaml"
    settings = load_config(path).eval if path.is_file() else EvalConfig()
    names = [field.name for field in dataclasses.fields(EvalConfig)]
    given = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    return dataclasses.replace(settings, **given)


def load_runner(pretrained: Path, device: str, settings: EvalConfig) -> PolicyRunner:
    """The policy, set up for the mode: batched eval steps (for the latency) with a chunk per call, too."""
    if settings.mode == "ensemble":
        return PolicyRunner.from_pretrained(
            pretrained, device, temporal_ensemble_coeff=settings.temporal_ensemble_coeff
        )
    own = json.loads((pretrained / "config.json").read_text(encoding="utf-8")).get("n_action_steps", 1)
    steps = 1 if settings.mode == "batched" else settings.n_action_steps or own
    return PolicyRunner.from_pretrained(pretrained, device, n_action_steps=steps)


def positive(text: str) -> int:
    """argparse type: a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


def not_negative(text: str) -> int:
    """argparse type: a whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} must be at least 0")
    return value


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Judge a checkpoint on recorded episodes.",
        epilog="Settings not given come from the eval section of the checkpoint's train_config.yaml.",
    )
    parser.add_argument(
        "--checkpoint", required=True, help="pretrained_model, a checkpoint, or a training output"
    )
    parser.add_argument("--dataset", required=True, nargs="+", help="LeRobot v3.0 folders, read as one")
    parser.add_argument("--output", default="outputs/eval", help="folder for parquet files and summary.json")
    parser.add_argument(
        "--episodes",
        type=not_negative,
        nargs="+",
        help="default: the held-out ones of the checkpoint, else all",
    )
    parser.add_argument("--start-frame", type=not_negative, default=0, help="first frame within each episode")
    parser.add_argument("--num-steps", type=positive, help="frames per episode; default: to its end")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--mode", choices=("batched", "queue", "ensemble"))
    parser.add_argument("--n-action-steps", type=positive, help="queue mode: actions executed per model call")
    parser.add_argument("--temporal-ensemble-coeff", type=float, help="ensemble mode: LeRobot's coefficient")
    parser.add_argument("--batch-size", type=positive, help="frames per model call in batched prediction")
    parser.add_argument("--latency-frames", type=positive, help="model calls that are timed")
    parser.add_argument("--latency-warmup-frames", type=not_negative, help="model calls before those")
    parser.add_argument(
        "--blackout-images", action="store_true", help="ablation: every camera image is black"
    )
    return parser.parse_args(argv)


def run(argv: Sequence[str] | None = None) -> int:
    """The command: evaluate, write the output folder, print the figures."""
    args = parse_arguments(argv)
    pretrained = find_checkpoint(Path(args.checkpoint))
    settings = resolve_settings(args, pretrained)
    runner = load_runner(pretrained, args.device, settings)
    info = load_dataset_info(pretrained) if (pretrained / "dataset_info.json").is_file() else None
    recorded, dataset = open_fitting(runner, pretrained, info, args.dataset)
    same_data = info is not None and info["fingerprint"] == dataset.fingerprint
    episodes = choose_episodes(args.episodes, info, dataset, same_data)
    plan = {
        episode: evaluated_frames(dataset, episode, args.start_frame, args.num_steps) for episode in episodes
    }
    mean_action = mean_training_action(runner, info, dataset, same_data)

    output = Path(args.output)
    with staged(output) as staging:
        times_ms = measure_latency(runner, recorded, plan, settings, args.blackout_images)
        errors = evaluate(runner, dataset, plan, settings, args.blackout_images, mean_action, staging)
        step = pretrained.parent.name
        train_config = read_train_config(pretrained)
        summary = {
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "checkpoint": {
                "path": str(pretrained),
                "fingerprint": fingerprint(pretrained),
                "step": int(step) if step.isdigit() else None,
                "init_checkpoint": train_config["training"]["init_checkpoint"] if train_config else None,
                "train_config": train_config,
            },
            "dataset": {
                "roots": [str(Path(root).resolve()) for root in args.dataset],
                "fingerprint": dataset.fingerprint,
                "robot_type": dataset.robot_type,
                "fps": dataset.fps,
                "cameras": {camera: list(shape) for camera, shape in runner.image_shapes.items()},
                "trained_on": same_data if info is not None else "unknown",
            },
            "held_out": are_held_out(episodes, info, same_data),
            "episodes": episodes,
            "num_episodes": len(episodes),
            "num_frames": sum(map(len, plan.values())),
            "joints": list(dataset.action_names),
            "units": "dataset units",
            "mode": settings.mode,
            "settings": {
                "start_frame": args.start_frame,
                "num_steps": args.num_steps,
                "batch_size": settings.batch_size,
                "n_action_steps": runner.n_action_steps if settings.mode == "queue" else 1,
                "temporal_ensemble_coeff": runner.temporal_ensemble_coeff,
                "latency_frames": settings.latency_frames,
                "latency_warmup_frames": settings.latency_warmup_frames,
            },
            "blackout_images": args.blackout_images,
            **errors,
            **latency_figures(times_ms, dataset.fps, settings.mode),
            "device": torch.cuda.get_device_name(runner.device)
            if runner.device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() != 1)}",
            "versions": {name: version(name) for name in ("torch", "lerobot")},
        }
        text = json.dumps(plain(summary), indent=2, allow_nan=False)
        (staging / SUMMARY).write_text(text + "\n", encoding="utf-8")
    print_figures(json.loads(text), output)
    return 0


def print_figures(summary: dict[str, Any], output: Path) -> None:
    """The figures in short, on stdout."""

    def line(name: str, figures: dict[str, Any]) -> str:
        parts = [f"{name:<10} policy={figures['overall']:.6g}"]
        for baseline, values in figures["baselines"].items():
            parts.append(
                f"{baseline}={values['overall']:.6g}" if values["overall"] is not None else f"{baseline}=n/a"
            )
        return " ".join(parts)

    latency, realtime = summary["latency_ms"], summary["realtime"]
    print(line("mae", summary["mae"]))
    print(line("chunk_mae", summary["chunk_mae"]))
    print(
        f"latency_ms mean={latency['mean']:.2f} p50={latency['p50']:.2f} p95={latency['p95']:.2f} "
        f"p99={latency['p99']:.2f} max={latency['max']:.2f} "
        f"realtime={'yes' if realtime['keeps_up'] else 'no'} "
        f"at {realtime['fps']} fps"
    )
    held_out = {True: "yes", False: "no"}.get(summary["held_out"], "unknown")
    print(
        f"episodes={summary['num_episodes']} frames={summary['num_frames']} held_out={held_out} "
        f"output={output}"
    )


if __name__ == "__main__":
    run_cli(run)
