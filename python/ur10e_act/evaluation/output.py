"""The output directory of an evaluation: its parquet files, and replacing an earlier result as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ur10e_act.atomic_io import sync
from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset
from ur10e_act.errors import UserError
from ur10e_act.evaluation.results import ALL_EPISODES, episode_file
from ur10e_act.evaluation.summary import SUMMARY_FILE

STAGING_PREFIX = ".offline_eval-"


def episode_table(
    dataset: LeRobotV3Dataset,
    episode: int,
    frames: range,
    seconds: np.ndarray,
    positions: np.ndarray,
    predicted: np.ndarray,
    true: np.ndarray,
) -> pa.Table:
    """The rows of one episode; offline_eval.py describes the columns.

    seconds: (n,); positions (NaN where there is none), predicted, true: (n, A), in dataset units.
    """
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


def write_all_episodes(directory: Path, episodes: Iterable[int]) -> None:
    """Join the files of the episodes, in this order, one in memory at a time."""
    paths = [directory / episode_file(episode) for episode in episodes]
    with pq.ParquetWriter(directory / ALL_EPISODES, pq.read_schema(paths[0])) as writer:
        for path in paths:
            writer.write_table(pq.ParquetFile(path).read())


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A hidden directory inside ``output`` whose files replace the earlier result when the block ends well.

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
    (output / SUMMARY_FILE).unlink(missing_ok=True)
    sync(output)
    for stale in [*output.glob("episode_*.parquet"), output / ALL_EPISODES]:
        stale.unlink(missing_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == SUMMARY_FILE):
        if path.name == SUMMARY_FILE:
            sync(output)
        os.replace(path, output / path.name)
    sync(output)
