"""One recording to one episode: messages to tracks, tracks to rows, rows to vectors and an mp4 a camera.

The result is a piece, a folder of its own: piece.json (the report), state.npy and action.npy, and for each
camera NAME.mp4 and NAME.counts.npy. One pass over the messages; in memory are the pictures around one row as
they were recorded, one decoded frame, and the rows' vectors.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from array import array
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from ur10e_act.atomic_io import sync_tree
from ur10e_act.dataset.video_encoder import EpisodeEncoder
from ur10e_act.recordings.bag_reader import Message, Recording, RecordingFault, RecordingReader
from ur10e_act.recordings.convert_config import ConvertConfig
from ur10e_act.recordings.ros_images import IMAGE_TYPES, CompressedDecoder, PictureError, decode_image
from ur10e_act.recordings.ros_joints import JointReader
from ur10e_act.recordings.synchronize import NS, NumberTrack, PictureTrack, SyncError, Synchronizer, wrapped

JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAY = "std_msgs/msg/Float64MultiArray"
HOLD_NUMBERS = tuple(
    f"std_msgs/msg/{name}"
    for name in ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
)
NUMBERS = ("std_msgs/msg/Float32", "std_msgs/msg/Float64", *HOLD_NUMBERS)
STAMPED = (JOINT_STATE, TRAJECTORY, *IMAGE_TYPES)
MAX_PENDING_S = 2  # How much later than a picture the other topics' messages may be stored.
FEATURES = ("observation.state", "action")


def camera_feature(name: str) -> str:
    return f"observation.images.{name}"


def header_stamp_ns(data: bytes) -> int:
    """The stamp of a message that begins with a std_msgs/Header, ns; 0 where it was never set."""
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(order + "iI", data, 4)
    return seconds * NS + nanoseconds


@dataclass
class _Clock:
    """A topic's times: which clock they are from, and how much later the recorder got the messages."""

    source: str | None = None
    count: int = 0
    sum_s: float = 0.0
    least_s: float = math.inf
    most_s: float = -math.inf

    def time_ns(self, message: Message, wanted: str) -> int:
        stamp = 0
        if wanted == "header" and message.type in STAMPED:
            if len(message.data) < 12:
                raise RecordingFault(
                    "bad_message", f"{message.topic}: a message of {len(message.data)} bytes"
                )
            stamp = header_stamp_ns(message.data)
        source = "header" if stamp else "receive"
        if self.source not in (None, source):
            raise RecordingFault(
                "mixed_stamps", f"{message.topic}: some messages have a stamp and some have none"
            )
        self.source = source
        time_ns = stamp or message.received_ns
        delay = (message.received_ns - time_ns) / NS
        self.count += 1
        self.sum_s += delay
        self.least_s, self.most_s = min(self.least_s, delay), max(self.most_s, delay)
        return time_ns

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = {"time": self.source}
        if self.source == "header" and self.count:
            delays = (self.least_s, self.sum_s / self.count, self.most_s)
            found["received_later_ms"] = dict(
                zip(("least", "mean", "most"), (round(d * 1e3, 3) for d in delays), strict=True)
            )
        return found


@dataclass
class _Source:
    """How the messages of one topic become values of tracks."""

    joints: dict[str, str] = field(default_factory=dict)  # joint name -> track
    number: str | None = None  # track of a message that is one number
    commands: list[str] = field(default_factory=list)  # tracks of an array without names
    picture: str | None = None


class _Episode:
    """Rows to files: pictures are encoded as they come, vectors kept."""

    def __init__(self, folder: Path, config: ConvertConfig):
        self.folder, self.config = folder, config
        # Row after row: small objects between the pictures would scatter the heap.
        self.states, self.commands = array("d"), array("d")
        self.encoders: dict[str, EpisodeEncoder] = {}
        self.recorded: dict[str, tuple[int, int]] = {}  # (H, W) px as recorded
        # A row's pictures are decoded while those of the row before are encoded.
        self._pool = ThreadPoolExecutor(1)
        self._waiting: dict[str, Future] | None = None

    def add(self, sample: dict[str, Any], decode: Callable[[str, Any], np.ndarray | av.VideoFrame]) -> None:
        """A row. Its pictures are written when the next one proves that its action is known."""
        state = [sample[f"joint {name}"] for name in self.config.joints.names]
        state += [sample["gripper"]] if self.config.gripper else []
        self.states.extend(self._in_convention(state))
        if self.config.action.mode == "command":
            command = [value for name, value in sample.items() if name.startswith("command ")]
            self.commands.extend(self._in_convention(command))
        before, self._waiting = self._waiting, {}
        for name in self.config.cameras:
            self._waiting[name] = self._pool.submit(decode, name, sample[f"camera {name}"])
        if before is not None:
            self._write(before)

    def finish(self) -> None:
        """Writes the last pictures where theirs is a row: without a next state only commands make one."""
        if self.config.action.mode == "command" and self._waiting is not None:
            self._write(self._waiting)
        self.close()

    def _in_convention(self, values: list[float]) -> np.ndarray:
        """Joints and gripper with the dataset's signs and turns, float64 (D,)."""
        found, joints = np.array(values), len(self.config.joints.names)
        if self.config.joints.signs:
            found[:joints] *= self.config.joints.signs
        if self.config.joints.wrap:
            found[:joints] = [wrapped(angle) for angle in found[:joints]]
        return found

    def _write(self, pictures: dict[str, Future]) -> None:
        for name, camera in self.config.cameras.items():
            frame = pictures[name].result()
            size = frame.shape[:2] if isinstance(frame, np.ndarray) else (frame.height, frame.width)
            height, width = self.recorded.setdefault(name, size)
            if size != (height, width):
                raise RecordingFault(
                    "size_changes",
                    f"{camera.topic}: pictures change from {width}x{height} to {size[1]}x{size[0]} px",
                )
            if camera.resize:
                from ur10e_act.dataset.resize import resize_frames  # imports torch, which takes seconds

                if not isinstance(frame, np.ndarray):
                    frame = frame.to_ndarray(format="rgb24")
                frame, size = resize_frames(frame[None], camera.resize)[0], camera.resize
            if name not in self.encoders:
                if size[0] % 2 or size[1] % 2:
                    raise RecordingFault(
                        "odd_size",
                        f"{camera.topic}: {width}x{height} px; video needs even numbers: "
                        f"set cameras.{name}.resize",
                    )
                path = self.folder / f"{name}.mp4"
                self.encoders[name] = EpisodeEncoder(
                    path, self.config.fps, (*size, 3), self.config.video_codec
                )
            self.encoders[name].add(frame)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for encoder in self.encoders.values():
            encoder.close()

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """States and actions, float32 (rows, D) each."""
        width = len(self.config.state_names)
        states = np.array(self.states).reshape(-1, width)
        mode, joints = self.config.action.mode, len(self.config.joints.names)
        if mode == "command":
            return states.astype(np.float32), np.array(self.commands).reshape(-1, width).astype(np.float32)
        actions = states[1:].copy()
        if mode == "delta":
            actions -= states[:-1]
            actions[:, :joints] = (actions[:, :joints] + np.pi) % (2 * np.pi) - np.pi
        return states[:-1].astype(np.float32), actions.astype(np.float32)


def convert_recording(
    recording: Recording,
    config: ConvertConfig,
    folder: Path,
    recover: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Makes the piece of one recording in ``folder`` and returns its report, which is also in piece.json.

    The report's ``status`` is kept or skipped, the latter with ``code`` and ``reason``, and without other
    files in the folder. ``progress`` is called with how many messages were read since its last call.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    report: dict[str, Any] = {"recording": recording.name, "status": "kept"}
    work = _Conversion(recording, config, partial, recover, progress)
    try:
        report |= work.run()
    except (RecordingFault, SyncError, PictureError) as fault:
        for file in partial.iterdir():
            file.unlink()
        report |= {"status": "skipped", "code": fault.code, "reason": " ".join(fault.message.split())}
    finally:
        work.episode.close()
    report["notes"] = [{"code": code, "sentence": sentence} for code, sentence in work.notes]
    report["messages"] = dict(sorted(work.counts.items()))
    (partial / "piece.json").write_text(json.dumps(report, indent=2) + "\n")
    sync_tree(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return report


class _Conversion:
    def __init__(self, recording, config, folder, recover, progress):
        self.recording, self.config, self.recover, self.progress = recording, config, recover, progress
        self.episode = _Episode(folder, config)
        self.folder = folder
        self.reader: RecordingReader | None = None
        self.clocks: dict[str, _Clock] = {}
        self.decoders: dict[str, CompressedDecoder] = {}
        self.joint_readers: dict[str, JointReader] = {}
        self.sources = self._sources()

    @property
    def notes(self) -> list[tuple[str, str]]:
        return self.reader.notes if self.reader else []

    @property
    def counts(self) -> dict[str, int]:
        return self.reader.counts if self.reader else {}

    def _sources(self) -> dict[str, _Source]:
        config = self.config
        sources = {topic: _Source() for topic in config.topics}
        for topic in config.joints.topics:
            sources[topic].joints |= {name: f"joint {name}" for name in config.joints.names}
        for name, camera in config.cameras.items():
            sources[camera.topic].picture = f"camera {name}"
        if config.gripper and config.gripper.joint:
            sources[config.gripper.topic].joints[config.gripper.joint] = "gripper"
        elif config.gripper:
            sources[config.gripper.topic].number = "gripper"
        if config.action.topic:
            names = [*config.joints.names] + (
                [config.gripper.joint or config.gripper.name] if config.gripper else []
            )
            tracks = [f"command {name}" for name in names]
            source = sources[config.action.topic]
            source.joints, source.commands = dict(zip(names, tracks, strict=True)), tracks
        return sources

    def run(self) -> dict[str, Any]:
        config = self.config
        self.reader = RecordingReader(self.recording, self.recover)
        start_ns = self._find_start()
        self.clocks = {}
        tracks = self._tracks(start_ns)
        rows = Synchronizer(config.fps, start_ns, tracks)
        pending = 0
        for message in self.reader.messages(self.sources):
            pending += 1
            if pending == 200:
                self.progress(pending)
                pending = 0
            latest = 0
            for track, time_ns, value in self._values(message):
                tracks[track].push(time_ns, value)
                latest = max(latest, time_ns)
            if latest >= rows.time_ns(rows.rows):
                for _, sample in rows.ready():
                    self.episode.add(sample, self._decode)
        self.progress(pending)
        self.episode.finish()
        states, actions = (
            self.episode.vectors() if self.episode.states else (np.zeros((0, 1)), np.zeros((0, 1)))
        )
        if not len(states):
            raise RecordingFault(
                "no_overlap", "there is no time at which all topics have messages" + self._span(tracks)
            )
        if len(states) < max(1, config.min_length_s * config.fps):
            raise RecordingFault(
                "too_short",
                f"{len(states) / config.fps:.2f} s with all topics, min_length_s is {config.min_length_s:g}"
                + self._span(tracks),
            )
        return self._write(states, actions, tracks, start_ns)

    def _span(self, tracks: dict[str, Any]) -> str:
        """From when to when all topics have messages, for a sentence about that time."""
        start_ns = next(iter(tracks.values())).start_ns
        name, track = min(tracks.items(), key=lambda item: item[1].last_ns or 0)
        if not track.last_ns:
            return f"; {name} has none behind {start_ns / NS:.2f} s, when the last of them begins"
        ends = f"the first ends at {track.last_ns / NS:.2f} s ({name})"
        return f"; the last begins at {start_ns / NS:.2f} s, {ends}"

    def _find_start(self) -> int:
        """The first time that every track has a message at or before it, ns."""
        firsts: dict[str, int] = {}
        wanted = [track for source in self.sources.values() for track in _tracks_of(source)]
        seen: set[str] = set()
        for message in self.reader.messages(self.sources):
            seen.add(message.topic)
            if self.sources[message.topic].picture:
                track = self.sources[message.topic].picture
                if track not in firsts:
                    firsts[track] = self._time_ns(message)
            elif not all(track in firsts for track in _tracks_of(self.sources[message.topic])):
                for track, time_ns, _ in self._values(message):
                    firsts.setdefault(track, time_ns)
            if len(firsts) == len(set(wanted)):
                return max(firsts.values())
        if not seen:
            topics = ", ".join(self.sources)
            raise RecordingFault("empty", f"no message on any of the topics {topics}")
        for topic, source in self.sources.items():
            if topic not in seen and not all(track in firsts for track in _tracks_of(source)):
                raise RecordingFault("missing_topic", f"no message on {topic}")
        missing = sorted(set(wanted) - set(firsts))
        raise RecordingFault("missing_joint", f"no message has {', '.join(missing)}")

    def _tracks(self, start_ns: int) -> dict[str, Any]:
        config = self.config
        offset_ns, gap_ns = round(config.max_offset_s * NS), round(config.max_gap_s * NS)
        tracks: dict[str, Any] = {}
        for name in config.joints.names:
            tracks[f"joint {name}"] = NumberTrack(f"joint {name}", start_ns, gap_ns, angle=True)
        if config.gripper:
            held = self.reader.types.get(config.gripper.topic) in HOLD_NUMBERS
            tracks["gripper"] = NumberTrack("gripper", start_ns, gap_ns, hold=held)
        if config.action.topic:
            for name in self.sources[config.action.topic].commands:
                tracks[name] = NumberTrack(name, start_ns, gap_ns, hold=True)
        for name, camera in config.cameras.items():
            tracks[f"camera {name}"] = PictureTrack(camera.topic, start_ns, offset_ns, MAX_PENDING_S * NS)
        return tracks

    def _time_ns(self, message: Message) -> int:
        return self.clocks.setdefault(message.topic, _Clock()).time_ns(message, self.config.time)

    def _values(self, message: Message) -> list[tuple[str, int, Any]]:
        """(track, time in ns, value) of all that a message tells. Raises RecordingFault."""
        source, topic, kind = self.sources[message.topic], message.topic, message.type
        time_ns = self._time_ns(message)
        if source.picture:
            if kind not in IMAGE_TYPES:
                raise RecordingFault(
                    "wrong_type", f"{topic} has {kind}, a camera needs {' or '.join(IMAGE_TYPES)}"
                )
            return [(source.picture, time_ns, message)]
        if kind == JOINT_STATE and source.joints:
            named = self._named(topic, *self._joint_reader(topic).read(message), source.joints)
            return self._finite(topic, time_ns, named)
        content = self.reader.deserialize(message)
        if kind in NUMBERS and source.number:
            named = [(source.number, float(content.data))]
        elif kind == TRAJECTORY and source.commands:
            if len(content.points) != 1:
                raise RecordingFault(
                    "wrong_type", f"{topic}: trajectories of {len(content.points)} points, not 1"
                )
            named = self._named(topic, content.joint_names, content.points[0].positions, source.joints)
        elif kind == ARRAY and source.commands:
            if len(content.data) != len(source.commands):
                raise RecordingFault(
                    "wrong_type", f"{topic}: {len(content.data)} values for {len(source.commands)} joints"
                )
            named = list(zip(source.commands, map(float, content.data), strict=True))
        else:
            raise RecordingFault(
                "wrong_type", f"{topic} has {kind}, which cannot be used for what it is to be"
            )
        return self._finite(topic, time_ns, named)

    def _joint_reader(self, topic: str) -> JointReader:
        if topic not in self.joint_readers:
            self.joint_readers[topic] = JointReader(self.reader.deserialize)
        return self.joint_readers[topic]

    def _finite(
        self, topic: str, time_ns: int, named: list[tuple[str, float]]
    ) -> list[tuple[str, int, float]]:
        for track, value in named:
            if not math.isfinite(value):
                raise RecordingFault("not_finite", f"{topic}: {track} is {value} at {time_ns / NS:.3f} s")
        return [(track, time_ns, value) for track, value in named]

    def _named(self, topic: str, names: Any, values: Any, wanted: dict[str, str]) -> list[tuple[str, float]]:
        if not len(values):  # a JointState of velocities or efforts alone
            return []
        if len(names) != len(values):
            raise RecordingFault("bad_message", f"{topic}: {len(names)} names for {len(values)} positions")
        return [
            (wanted[name], float(value)) for name, value in zip(names, values, strict=True) if name in wanted
        ]

    def _decode(self, name: str, message: Message) -> np.ndarray | av.VideoFrame:
        camera = self.config.cameras[name]
        content = self.reader.deserialize(message)
        try:
            if message.type == IMAGE_TYPES[0]:
                return decode_image(content, camera.depth_near_m, camera.depth_far_m)
            if name not in self.decoders:
                self.decoders[name] = CompressedDecoder(camera.depth_near_m, camera.depth_far_m)
            return self.decoders[name].decode(content)
        except PictureError as error:
            raise PictureError(error.code, f"{camera.topic}: {error.message}") from error

    def _write(self, states, actions, tracks, start_ns) -> dict[str, Any]:
        np.save(self.folder / "state.npy", states)
        np.save(self.folder / "action.npy", actions)
        offsets, sizes = {}, {}
        for name, encoder in self.episode.encoders.items():
            np.save(self.folder / f"{name}.counts.npy", encoder.counts)
            offset = np.abs(tracks[f"camera {name}"].offsets_ns) / 1e6
            offsets[name] = {"mean": round(float(offset.mean()), 3), "max": round(float(offset.max()), 3)}
            sizes[name] = list(encoder.shape)
        gaps = {n: round(t.largest_gap_ns / 1e6, 3) for n, t in tracks.items() if isinstance(t, NumberTrack)}
        return {
            "frames": len(states),
            "start_s": start_ns / NS,
            "picture_shapes": sizes,
            "picture_offset_ms": offsets,
            "largest_gap_ms": gaps,
            "topics": {topic: clock.report() for topic, clock in sorted(self.clocks.items())},
        }


def _tracks_of(source: _Source) -> list[str]:
    single = [track for track in (source.picture, source.number) if track]
    return [*single, *source.joints.values()]
