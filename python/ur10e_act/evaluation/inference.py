"""The policy over recorded frames: chunks and executed actions, and how long a model call takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ur10e_act.config import EvalConfig
from ur10e_act.dataset.features import STATE
from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset
from ur10e_act.errors import UserError
from ur10e_act.policy.runner import PolicyRunner


@dataclass(frozen=True)
class Predictions:
    """What the policy does at n consecutive frames of an episode."""

    frames: np.ndarray  # (n,) int64, frame numbers within the episode
    chunks: np.ndarray  # (n, chunk, A) float32, dataset units
    executed: np.ndarray  # (n, A) float32, dataset units
    seconds: np.ndarray  # (n,) float64, inference time of each executed action


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


def run_episode(
    runner: PolicyRunner,
    dataset: LeRobotV3Dataset,
    episode: int,
    frames: range,
    settings: EvalConfig,
    blackout: bool,
) -> Iterator[Predictions]:
    """Run the policy over consecutive frames of an episode, ``batch_size`` at a time.

    Memory holds one batch of images. Raises UserError for actions that are not finite.
    """
    states = dataset.read_states(episode)
    runner.reset()
    for first in range(0, len(frames), settings.batch_size):
        now = frames[first : first + settings.batch_size]
        batch = read_observations(dataset, runner.cameras, episode, now, states, blackout)
        start = time.perf_counter()
        chunks = runner.predict_chunks(batch)
        elapsed = time.perf_counter() - start
        if settings.mode == "batched":
            executed, seconds = chunks[:, 0], np.full(len(now), elapsed / len(now))
        else:
            executed, seconds = step_through(runner, batch, len(now))
        if not (np.isfinite(chunks).all() and np.isfinite(executed).all()):
            raise UserError(
                f"the policy's actions are not finite in episode {episode}; did training diverge?"
            )
        yield Predictions(np.asarray(now), chunks, executed, seconds)


def step_through(
    runner: PolicyRunner, batch: Mapping[str, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Step through ``count`` observations as the robot does: actions (n, A) float32, seconds (n,) float64."""
    actions, seconds = np.empty((count, runner.action_dim), dtype=np.float32), np.empty(count)
    for row in range(count):
        start = time.perf_counter()
        actions[row] = runner.step({name: value[row] for name, value in batch.items()})
        seconds[row] = time.perf_counter() - start
    return actions, seconds


def measure_latency(
    runner: PolicyRunner,
    dataset: LeRobotV3Dataset,
    frames_by_episode: dict[int, range],
    settings: EvalConfig,
    blackout: bool,
) -> np.ndarray:
    """Times in ms of full model calls at batch 1, from the cameras' uint8 images to the action on the host.

    The frames are as recorded, so that resizing counts as it does on the robot; decoding does not count. The
    first ``latency_warmup_frames`` calls are made and dropped.
    """
    warmup, measured = settings.latency_warmup_frames, settings.latency_frames
    episodes = list(frames_by_episode)
    ends = np.cumsum([len(frames) for frames in frames_by_episode.values()])
    times = []
    # Spread evenly over the evaluated frames, so that the images differ as they do on the robot.
    for pick in np.linspace(0, ends[-1] - 1, warmup + measured).round().astype(int):
        at = int(np.searchsorted(ends, pick, side="right"))
        episode = episodes[at]
        frame = frames_by_episode[episode][int(pick - ends[at])]
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
