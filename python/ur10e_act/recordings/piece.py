"""A piece: one recording as an episode, in a directory of its own.

state.npy, action.npy, for each camera NAME.mp4 and NAME.counts.npy, and piece.json, the report of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np

from ur10e_act.dataset.video_encoder import EpisodeEncoder
from ur10e_act.recordings.convert_config import ConvertConfig
from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.synchronize import wrapped

PIECE_REPORT = "piece.json"
Decode = Callable[[str, Any], "np.ndarray | av.VideoFrame"]


class PieceWriter:
    """Rows to files: images are encoded as they come, vectors kept until the end.

    decode: from a camera's name and its sample to uint8 (H, W, 3), RGB, or a JPEG decoder's own frame.
    """

    def __init__(self, folder: Path, config: ConvertConfig, decode: Decode):
        self.folder, self.config, self._decode = folder, config, decode
        # Row after row: small objects between the images would scatter the heap.
        self._states, self._commands = array("d"), array("d")
        self._encoders: dict[str, EpisodeEncoder] = {}
        self._recorded: dict[str, tuple[int, int]] = {}  # (H, W) px as recorded
        # A row's images are decoded while those of the row before are encoded.
        self._pool = ThreadPoolExecutor(1)
        self._waiting: dict[str, Future[np.ndarray | av.VideoFrame]] = {}

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for encoder in self._encoders.values():
            encoder.close()

    def add(self, sample: dict[str, Any]) -> None:
        """A row, as a sample of every track. Raises Fault where images cannot be used.

        Its images are written when the next row proves that its action is known.
        """
        state = [sample[f"joint {name}"] for name in self.config.joints.names]
        state += [sample["gripper"]] if self.config.gripper else []
        self._states.extend(self._in_convention(state))
        if self.config.action.mode == "command":
            command = [value for name, value in sample.items() if name.startswith("command ")]
            self._commands.extend(self._in_convention(command))
        before = self._waiting
        self._waiting = {
            name: self._pool.submit(self._decode, name, sample[f"camera {name}"])
            for name in self.config.cameras
        }
        self._encode(before)

    def finish(self) -> int:
        """Writes what is left; returns how many rows there are.

        The last row has no next state, so only commands give it an action.
        """
        if self.config.action.mode == "command":
            self._encode(self._waiting)
        for name, encoder in self._encoders.items():
            encoder.close()
            np.save(self.folder / f"{name}.counts.npy", encoder.counts)
        states, actions = self._vectors()
        np.save(self.folder / "state.npy", states)
        np.save(self.folder / "action.npy", actions)
        return len(states)

    @property
    def image_shapes(self) -> dict[str, list[int]]:
        """[H, W, 3] by camera."""
        return {name: list(encoder.shape) for name, encoder in self._encoders.items()}

    def _in_convention(self, values: list[float]) -> np.ndarray:
        """Joints and gripper with the dataset's signs and turns, float64 (D,)."""
        found, joints = np.array(values), len(self.config.joints.names)
        if self.config.joints.signs:
            found[:joints] *= self.config.joints.signs
        if self.config.joints.wrap:
            found[:joints] = [wrapped(angle) for angle in found[:joints]]
        return found

    def _encode(self, images: dict[str, Future[np.ndarray | av.VideoFrame]]) -> None:
        for name, image in images.items():
            camera, frame = self.config.cameras[name], image.result()
            size = frame.shape[:2] if isinstance(frame, np.ndarray) else (frame.height, frame.width)
            height, width = self._recorded.setdefault(name, size)
            if size != (height, width):
                raise Fault(
                    "size_changes",
                    f"{camera.topic}: images change from {width}x{height} to {size[1]}x{size[0]} px",
                )
            if camera.resize:
                from ur10e_act.dataset.resize import resize_frames  # imports torch, which takes seconds

                if not isinstance(frame, np.ndarray):
                    frame = frame.to_ndarray(format="rgb24")
                frame, size = resize_frames(frame[None], camera.resize)[0], camera.resize
            if name not in self._encoders:
                if size[0] % 2 or size[1] % 2:
                    raise Fault(
                        "odd_size",
                        f"{camera.topic}: {width}x{height} px; video needs even numbers: "
                        f"set cameras.{name}.resize",
                    )
                path = self.folder / f"{name}.mp4"
                self._encoders[name] = EpisodeEncoder(
                    path, self.config.fps, (*size, 3), self.config.video_codec
                )
            self._encoders[name].add(frame)

    def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """States and actions, float32 (rows, D) each."""
        width = len(self.config.state_names)
        states = np.array(self._states).reshape(-1, width)
        mode, joints = self.config.action.mode, len(self.config.joints.names)
        if mode == "command":
            return states.astype(np.float32), np.array(self._commands).reshape(-1, width).astype(np.float32)
        actions = states[1:].copy()
        if mode == "delta":
            actions -= states[:-1]
            actions[:, :joints] = (actions[:, :joints] + np.pi) % (2 * np.pi) - np.pi
        return states[:-1].astype(np.float32), actions.astype(np.float32)
