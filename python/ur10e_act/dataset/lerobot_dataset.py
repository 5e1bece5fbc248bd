"""LeRobot datasets of format v3.0, one or several read as one, and the training samples drawn from them.

``open_dataset`` reads metadata and vectors and refuses what cannot be trained on (metadata.py); frames
stay in their files and are decoded on demand (frame_reader.py). ``ChunkDataset`` gives samples that equal
those of LeRobotDataset of lerobot 0.4 and 0.6 with ``delta_timestamps`` for a chunk of actions.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ur10e_act.dataset.dataset_error import DatasetError
from ur10e_act.dataset.features import ACTION, STATE
from ur10e_act.dataset.frame_reader import DatasetFrames, FrameReader
from ur10e_act.dataset.info import Feature, read_info
from ur10e_act.dataset.metadata import DatasetFolder
from ur10e_act.errors import run_cli


@dataclass(frozen=True)
class Episode:
    """One episode; ``index`` and ``first_frame`` count through all folders of the dataset."""

    index: int
    length: int  # frames
    tasks: tuple[str, ...]
    root: Path
    first_frame: int


class LeRobotV3Dataset:
    """One or several LeRobot v3.0 folders, read as one. Made by ``open_dataset``.

    Attributes:
        fps: frames/s.
        robot_type: as recorded.
        features: by full name.
        cameras: full names, in the order of meta/info.json.
        image_shapes: (H, W) px by camera, after resizing.
        state_names, action_names: joints.
        episodes, num_frames: over all folders.
        tasks: texts by task_index.
        frames: the FrameReader.
        fingerprint: hex sha256 over features, vectors, meta/episodes (with its image statistics) and sizes of
            video files. Independent of where the directories are, of file times, and of the cameras and image
            size asked for.
    """

    def __init__(
        self, folders: Sequence[DatasetFolder], cameras: tuple[str, ...], image_size: tuple[int, int] | None
    ) -> None:
        first = folders[0].info
        self.fps: int = first.fps
        self.robot_type: str = ", ".join(dict.fromkeys(folder.info.robot_type for folder in folders))
        self.features: dict[str, Feature] = first.features
        self.cameras = cameras
        recorded = {camera: first.features[camera].height_width for camera in cameras}
        self.image_shapes = {camera: image_size or recorded[camera] for camera in cameras}
        self.state_names = first.features[STATE].element_names
        self.action_names = first.features[ACTION].element_names
        digests = [folder.digest for folder in folders]
        joined = hashlib.sha256("".join(digests).encode()).hexdigest()
        self.fingerprint = digests[0] if len(digests) == 1 else joined

        self._states = np.concatenate([folder.states for folder in folders])
        self._actions = np.concatenate([folder.actions for folder in folders])
        self._timestamps = np.concatenate([folder.timestamps for folder in folders])
        # A single folder keeps its numbers of tasks; several may number the same texts differently.
        texts = [task for folder in folders for task in folder.tasks]
        self.tasks = tuple(texts if len(folders) == 1 else dict.fromkeys(texts))
        if len(folders) == 1:
            self._task_index = folders[0].task_index
        else:
            numbers = {task: number for number, task in enumerate(self.tasks)}
            renumbered = [
                np.array([numbers[t] for t in f.tasks], dtype=np.int64)[f.task_index] for f in folders
            ]
            self._task_index = np.concatenate(renumbered)
        for array in (self._states, self._actions, self._timestamps, self._task_index):
            array.flags.writeable = False

        episodes: list[Episode] = []
        self.num_frames = 0
        for folder in folders:
            for length, tasks in zip(folder.lengths.tolist(), folder.episode_tasks, strict=True):
                episodes.append(Episode(len(episodes), length, tasks, folder.info.root, self.num_frames))
                self.num_frames += length
        self.episodes: tuple[Episode, ...] = tuple(episodes)
        segments = {camera: [s for f in folders for s in f.segments[camera]] for camera in cameras}
        timestamps = [self.read_timestamps(episode.index) for episode in episodes]
        self.frames: FrameReader = DatasetFrames(segments, timestamps, recorded, image_size)

    def read_states(self, episode: int) -> np.ndarray:
        """Joint states of one episode: float32 (n, state_dim), dataset units, read-only."""
        return self._states[self._rows(episode)]

    def read_actions(self, episode: int) -> np.ndarray:
        """Actions of one episode: float32 (n, action_dim), dataset units, read-only."""
        return self._actions[self._rows(episode)]

    def read_timestamps(self, episode: int) -> np.ndarray:
        """Timestamps of one episode from its start: float32 (n,) s, read-only."""
        return self._timestamps[self._rows(episode)]

    def read_task_indices(self, episode: int) -> np.ndarray:
        """Position in ``tasks`` of each frame's task, which may change within an episode: int64 (n,)."""
        return self._task_index[self._rows(episode)]

    def _rows(self, episode: int) -> slice:
        if not 0 <= episode < len(self.episodes):
            raise IndexError(f"episode {episode} of {len(self.episodes)}")
        start = self.episodes[episode].first_frame
        return slice(start, start + self.episodes[episode].length)


def open_dataset(
    roots: Sequence[Path | str],
    cameras: Sequence[str] | None = None,
    image_size: Sequence[int] | None = None,
) -> LeRobotV3Dataset:
    """Open LeRobot v3.0 folders as one dataset; episodes are numbered through in the order of ``roots``.

    Args:
        roots: dataset folders with the same features and fps.
        cameras: full feature names; None takes all RGB cameras (depth is left out).
        image_size: (height, width) px that frames are resized to; None keeps them as recorded.

    Raises DatasetError, naming file and remedy, for what training would stumble over later: missing or cut
    files, another format version, counts, fps, timestamps or videos that disagree, NaN, folders that differ.
    Videos are probed through their index and two frames, not decoded.
    """
    paths = [Path(root) for root in ([roots] if isinstance(roots, str | Path) else roots)]
    if not paths:
        raise DatasetError("no dataset given: name at least one LeRobot v3.0 folder")
    known: dict[Path, Path] = {}
    for path in paths:
        if known.setdefault(path.resolve(), path) is not path:
            raise DatasetError(f"{path}: given twice; name each folder once")
    infos = [read_info(path) for path in paths]
    for info in infos[1:]:
        info.refuse_differences(infos[0])
    chosen = infos[0].choose_cameras(cameras)
    folders = [DatasetFolder(info, chosen) for info in infos]
    height_width = (int(image_size[0]), int(image_size[1])) if image_size is not None else None
    return LeRobotV3Dataset(folders, chosen, height_width)


class ChunkDataset(torch.utils.data.Dataset):
    """Training samples: one observation and the chunk of actions that follows it.

    Sample i is frame i of the chosen episodes, in their order. Its chunk holds ``chunk_size`` actions of the
    same episode from that frame on; past the episode's end the last one is repeated and ``action_is_pad`` is
    true. The values are those of LeRobotDataset for the same frame.
    """

    def __init__(
        self,
        dataset: LeRobotV3Dataset,
        episodes: Sequence[int],
        chunk_size: int,
        transforms: Callable[[torch.Tensor], torch.Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        """Args: ``transforms`` sees each camera's uint8 (3, H, W) by itself, as in LeRobotDataset."""
        missing = [episode for episode in episodes if not 0 <= episode < len(dataset.episodes)]
        if missing:
            raise DatasetError(
                f"episode {missing[0]} is not in the dataset, which has 0 to {len(dataset.episodes) - 1}"
            )
        if chunk_size < 1:
            raise DatasetError(f"chunk_size is {chunk_size}; it must be at least 1")
        self.dataset = dataset
        self.episodes = tuple(int(episode) for episode in episodes)
        self.chunk_size = chunk_size
        self.transforms = transforms
        self.seed = seed
        self._ends = np.cumsum(
            [dataset.episodes[episode].length for episode in self.episodes], dtype=np.int64
        )

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, torch.Tensor]:
        """Sample ``i``, or, with ``(epoch, i)``, as augmented in that epoch.

        Augmentations depend on (seed, epoch, i) alone, so a resumed run draws the same ones.
        """
        epoch, i = key if isinstance(key, tuple) else (0, key)
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        position = int(np.searchsorted(self._ends, i, side="right"))
        episode = self.dataset.episodes[self.episodes[position]]
        frame = i - int(self._ends[position]) + episode.length
        actions = self.dataset.read_actions(episode.index)
        steps = np.arange(frame, frame + self.chunk_size)
        sample = {
            STATE: torch.from_numpy(self.dataset.read_states(episode.index)[frame].copy()),
            ACTION: torch.from_numpy(actions[np.minimum(steps, episode.length - 1)]),
            "action_is_pad": torch.from_numpy(steps >= episode.length),
            "timestamp": torch.tensor(self.dataset.read_timestamps(episode.index)[frame]),
            "frame_index": torch.tensor(frame),
            "episode_index": torch.tensor(episode.index),
            "index": torch.tensor(episode.first_frame + frame),
            "task_index": torch.tensor(int(self.dataset.read_task_indices(episode.index)[frame])),
        }
        images = {
            camera: torch.from_numpy(self.dataset.frames.read(camera, episode.index, [frame])[0])
            .permute(2, 0, 1)
            .contiguous()
            for camera in self.dataset.cameras
        }
        if self.transforms is not None:
            images = self._augment(self.transforms, images, epoch, i)
        return sample | images

    def _augment(
        self,
        transforms: Callable[[torch.Tensor], torch.Tensor],
        images: dict[str, torch.Tensor],
        epoch: int,
        i: int,
    ) -> dict[str, torch.Tensor]:
        state = torch.get_rng_state()
        seed = np.random.SeedSequence([self.seed, epoch, i]).generate_state(1, np.uint64)[0]
        try:
            torch.default_generator.manual_seed(int(seed))
            return {camera: transforms(image) for camera, image in images.items()}
        finally:
            torch.set_rng_state(state)


def split_episodes(
    episodes: Sequence[int],
    held_out_episodes: Sequence[int] | None,
    held_out_fraction: float,
    seed: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide episodes into (training, held-out), both ascending and never empty.

    Held-out are ``held_out_episodes`` or, when None, ``held_out_fraction`` of the episodes (rounded, at least
    one), in the order of a hash of seed and episode: the choice depends on no library's random generator.

    Raises DatasetError when a named episode is not among ``episodes`` or nothing is left for one of the two.
    """
    available = sorted(set(episodes))
    if len(available) < 2:
        raise DatasetError(
            f"{len(available)} episode(s) cannot be divided into training and held-out ones; "
            "record at least two"
        )
    if held_out_episodes is None:
        count = max(1, round(held_out_fraction * len(available)))
        ranked = sorted(available, key=lambda e: hashlib.sha256(f"{seed}:{e}".encode()).digest())
        held_out = ranked[:count]
        source = f"held_out_fraction {held_out_fraction} of {len(available)} episodes"
    else:
        held_out = sorted(set(held_out_episodes))
        source = "held_out_episodes"
        missing = [episode for episode in held_out if episode not in available]
        if missing:
            raise DatasetError(
                f"held_out_episodes names episode {missing[0]}, which is not among the {len(available)} "
                f"episodes used ({available[0]} to {available[-1]}); correct the list"
            )
        if not held_out:
            raise DatasetError(
                "held_out_episodes is an empty list; name an episode, or null to choose by fraction"
            )
    train = tuple(episode for episode in available if episode not in set(held_out))
    if not train:
        raise DatasetError(f"{source} leaves no episode for training; hold out fewer")
    return train, tuple(sorted(held_out))


def main() -> None:
    parser = argparse.ArgumentParser(description="Check LeRobot v3.0 datasets, and print what they hold.")
    parser.add_argument("roots", nargs="+", metavar="DIR")
    dataset = open_dataset(parser.parse_args().roots)
    print(
        f"{len(dataset.episodes)} episodes, {dataset.num_frames} frames at {dataset.fps} Hz, "
        f"{', '.join(dataset.cameras)}"
    )


if __name__ == "__main__":
    run_cli(main)
