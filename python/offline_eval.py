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
import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from ur10e_act.config import EvalConfig, load_config
from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset
from ur10e_act.errors import run_cli
from ur10e_act.evaluation.baselines import HoldPosition, mean_training_action
from ur10e_act.evaluation.inference import measure_latency, run_episode
from ur10e_act.evaluation.matching import (
    are_held_out,
    choose_episodes,
    evaluated_frames,
    open_matching_dataset,
    read_train_config,
)
from ur10e_act.evaluation.metrics import (
    AbsoluteErrors,
    ErrorTotals,
    chunk_targets,
    judge_realtime,
    latency_figures,
)
from ur10e_act.evaluation.output import episode_table, staged, write_all_episodes
from ur10e_act.evaluation.results import episode_file
from ur10e_act.evaluation.summary import (
    SUMMARY_FILE,
    BaselineDefinitions,
    CheckpointFacts,
    ChunkErrors,
    DatasetFacts,
    EpisodeErrors,
    EvalSummary,
    ExecutedErrors,
    Settings,
    to_json,
)
from ur10e_act.policy.checkpoint import find_checkpoint, fingerprint, load_dataset_info
from ur10e_act.policy.runner import PolicyRunner


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


def evaluate(
    runner: PolicyRunner,
    dataset: LeRobotV3Dataset,
    frames_by_episode: dict[int, range],
    settings: EvalConfig,
    blackout: bool,
    hold: HoldPosition,
    mean_action: np.ndarray,
    directory: Path,
) -> tuple[ErrorTotals, list[EpisodeErrors]]:
    """Run the policy over the chosen frames, write the parquet files, and sum up the errors.

    ``mean_action``: (A,). Memory holds one episode's vectors and one batch of images at a time.
    """
    totals, per_episode = ErrorTotals(runner.chunk_size, runner.action_dim), []
    frame_count = sum(map(len, frames_by_episode.values()))
    with tqdm(total=frame_count, unit="frame", disable=not sys.stderr.isatty()) as bar:
        for episode, frames in frames_by_episode.items():
            actions = dataset.read_actions(episode)
            positions = hold.positions(dataset.read_states(episode))
            in_episode = AbsoluteErrors(runner.chunk_size, runner.action_dim)
            executed, seconds = [], []
            for batch in run_episode(runner, dataset, episode, frames, settings, blackout):
                true, valid = chunk_targets(actions, batch.frames, runner.chunk_size)
                in_episode.add(batch.chunks, true, valid)
                totals.policy.add(batch.chunks, true, valid)
                totals.hold_position.add(hold.actions(positions[batch.frames])[:, None], true, valid)
                totals.mean_action.add(mean_action[None, None], true, valid)
                executed.append(batch.executed)
                seconds.append(batch.seconds)
                bar.update(len(batch.frames))

            evaluated = slice(frames.start, frames.stop)
            predicted, true = np.concatenate(executed), actions[evaluated]
            totals.executed.add(predicted[:, None], true[:, None], np.ones((len(frames), 1), dtype=bool))
            rows = np.concatenate(seconds), positions[evaluated], predicted, true
            pq.write_table(episode_table(dataset, episode, frames, *rows), directory / episode_file(episode))
            errors = EpisodeErrors(
                episode,
                len(frames),
                mae=float(np.abs(predicted.astype(np.float64) - true).mean()),
                chunk_mae=float(in_episode.per_joint().mean()),
            )
            per_episode.append(errors)
            if bar.disable:
                print(
                    f"episode={episode} frames={len(frames)} mae={errors.mae:.6g} "
                    f"chunk_mae={errors.chunk_mae:.6g}",
                    flush=True,
                )
    write_all_episodes(directory, frames_by_episode)
    return totals, per_episode


def describe_baselines(hold: HoldPosition, joints: Sequence[str]) -> BaselineDefinitions:
    relative = [joint for joint, flag in zip(joints, hold.relative, strict=True) if flag]
    exception = f"; zero for {', '.join(relative)}, whose actions are changes of position" if relative else ""
    return BaselineDefinitions(
        hold_position=f"the current state of the joint of the same name{exception}",
        mean_action="the mean action of the training episodes",
    )


def describe_checkpoint(pretrained: Path) -> CheckpointFacts:
    step, train_config = pretrained.parent.name, read_train_config(pretrained)
    return CheckpointFacts(
        path=str(pretrained),
        fingerprint=fingerprint(pretrained),
        step=int(step) if step.isdigit() else None,
        init_checkpoint=train_config["training"]["init_checkpoint"] if train_config else None,
        train_config=train_config,
    )


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)}"


def run(argv: Sequence[str] | None = None) -> int:
    """The command: evaluate, write the output directory, print the figures."""
    args = parse_arguments(argv)

    # The policy, and what was recorded.
    pretrained = find_checkpoint(Path(args.checkpoint))
    settings = resolve_settings(args, pretrained)
    runner = load_runner(pretrained, args.device, settings)
    info = load_dataset_info(pretrained) if (pretrained / "dataset_info.json").is_file() else None
    recorded, dataset = open_matching_dataset(runner, pretrained, info, args.dataset)
    same_data = info is not None and info["fingerprint"] == dataset.fingerprint
    episodes = choose_episodes(args.episodes, info, dataset, same_data)
    frames_by_episode = {
        episode: evaluated_frames(dataset, episode, args.start_frame, args.num_steps) for episode in episodes
    }
    joints = list(dataset.action_names)

    # The trivial policies.
    hold = HoldPosition(dataset, episodes[0])
    mean_action = mean_training_action(runner, info, dataset, same_data)

    output, blackout = Path(args.output), args.blackout_images
    with staged(output) as staging:
        times_ms = measure_latency(runner, recorded, frames_by_episode, settings, blackout)
        totals, per_episode = evaluate(
            runner, dataset, frames_by_episode, settings, blackout, hold, mean_action, staging
        )
        summary = EvalSummary(
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            checkpoint=describe_checkpoint(pretrained),
            dataset=DatasetFacts(
                roots=[str(Path(root).resolve()) for root in args.dataset],
                fingerprint=dataset.fingerprint,
                robot_type=dataset.robot_type,
                fps=dataset.fps,
                cameras=runner.image_shapes,
                trained_on=same_data if info is not None else "unknown",
            ),
            held_out=are_held_out(episodes, info, same_data),
            episodes=episodes,
            num_episodes=len(episodes),
            num_frames=sum(map(len, frames_by_episode.values())),
            joints=joints,
            units="dataset units",
            mode=settings.mode,
            settings=Settings(
                start_frame=args.start_frame,
                num_steps=args.num_steps,
                batch_size=settings.batch_size,
                n_action_steps=runner.n_action_steps if settings.mode == "queue" else 1,
                temporal_ensemble_coeff=runner.temporal_ensemble_coeff,
                latency_frames=settings.latency_frames,
                latency_warmup_frames=settings.latency_warmup_frames,
            ),
            blackout_images=blackout,
            mae=totals.executed_errors(joints),
            chunk_mae=totals.chunk_errors(joints),
            baseline_definitions=describe_baselines(hold, joints),
            per_episode=per_episode,
            latency_ms=latency_figures(times_ms),
            realtime=judge_realtime(times_ms, dataset.fps, settings.mode),
            device=describe_device(runner.device),
            versions={name: version(name) for name in ("torch", "lerobot")},
        )
        (staging / SUMMARY_FILE).write_text(to_json(summary), encoding="utf-8")
    print_figures(summary, output)
    return 0


def print_figures(summary: EvalSummary, output: Path) -> None:
    """The figures in short, on stdout."""

    def line(name: str, errors: ExecutedErrors | ChunkErrors) -> str:
        hold, mean = errors.baselines.hold_position.overall, errors.baselines.mean_action.overall
        parts = [f"{name:<10} policy={errors.overall:.6g}"]
        for baseline, error in (("hold_position", hold), ("mean_action", mean)):
            parts.append(f"{baseline}=n/a" if error is None else f"{baseline}={error:.6g}")
        return " ".join(parts)

    latency, realtime = summary.latency_ms, summary.realtime
    print(line("mae", summary.mae))
    print(line("chunk_mae", summary.chunk_mae))
    print(
        f"latency_ms mean={latency.mean:.2f} p50={latency.p50:.2f} p95={latency.p95:.2f} "
        f"p99={latency.p99:.2f} max={latency.max:.2f} "
        f"realtime={'yes' if realtime.keeps_up else 'no'} "
        f"at {realtime.fps} fps"
    )
    held_out = {True: "yes", False: "no", "unknown": "unknown"}[summary.held_out]
    print(f"episodes={summary.num_episodes} frames={summary.num_frames} held_out={held_out} output={output}")


if __name__ == "__main__":
    run_cli(run)
