"""One recording to one piece: messages to tracks, tracks to rows, rows to vectors and an mp4 a camera.

Two passes over the messages: the first ends where every track has begun. In memory are the images around one
row as they were recorded, one decoded frame, and the rows' vectors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from ur10e_act.atomic_io import replace_directory, sync_tree
from ur10e_act.recordings.bag_reader import Message, RecordingReader
from ur10e_act.recordings.conversion_report import Kept, RecordingReport, Skipped
from ur10e_act.recordings.convert_config import ConvertConfig
from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.find_recordings import Digests, Recording
from ur10e_act.recordings.message_values import HOLD_NUMBERS, MessageValues
from ur10e_act.recordings.piece import PIECE_REPORT, PieceWriter
from ur10e_act.recordings.ros_images import IMAGE_TYPES, CompressedDecoder, decode_image
from ur10e_act.recordings.synchronize import NS, ImageTrack, NumberTrack, Synchronizer

MAX_PENDING_S = 2  # How much later than an image the other topics' messages may be stored.
PROGRESS_EVERY = 200  # messages
Tracks = dict[str, "ImageTrack | NumberTrack"]
Progress = Callable[[int], object]


def convert_recording(
    recording: Recording,
    digests: Digests,
    config: ConvertConfig,
    folder: Path,
    recover: bool = False,
    progress: Progress = lambda _: None,
) -> RecordingReport:
    """Makes the piece of one recording in ``folder`` and returns its report, which is also in piece.json.

    A recording that cannot be converted has a report alone. ``progress`` is called with how many messages
    were read since its last call.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    result: Kept | Skipped
    notes: list[tuple[str, str]] = []
    counts: dict[str, int] = {}
    try:
        reader = RecordingReader(recording, recover)
    except Fault as fault:
        result = Skipped(fault.code, fault.message)
    else:
        result = _convert(reader, config, partial, progress)
        notes, counts = reader.notes, reader.counts
    report = RecordingReport(
        recording.name,
        result,
        [{"code": code, "sentence": sentence} for code, sentence in notes],
        dict(sorted(counts.items())),
        digests,
        recover,
        piece=folder.name,
    )
    (partial / PIECE_REPORT).write_text(json.dumps(report.to_json(), indent=2) + "\n")
    sync_tree(partial)
    replace_directory(partial, folder, folder.with_name(folder.name + ".old"))
    return report


def _convert(
    reader: RecordingReader, config: ConvertConfig, folder: Path, progress: Progress
) -> Kept | Skipped:
    decode = _Decoder(config, reader)
    try:
        with PieceWriter(folder, config, decode) as piece:
            return _write_rows(reader, config, piece, progress)
    except Fault as fault:
        for file in folder.iterdir():
            file.unlink()
        return Skipped(fault.code, fault.message)


def _write_rows(
    reader: RecordingReader, config: ConvertConfig, piece: PieceWriter, progress: Progress
) -> Kept:
    """All rows of a recording. Raises Fault."""
    values = MessageValues(config, reader.deserialize)
    start_ns = _find_start(reader, values)
    values.clocks.clear()
    tracks = _make_tracks(reader, values, start_ns)
    rows = Synchronizer(config.fps, start_ns, tracks)
    pending = 0
    for message in reader.messages(values.sources):
        pending += 1
        if pending == PROGRESS_EVERY:
            progress(pending)
            pending = 0
        latest = 0
        for name, time_ns, value in values.read(message):
            tracks[name].push(time_ns, value)
            latest = max(latest, time_ns)
        if latest >= rows.time_ns(rows.rows):
            for _, sample in rows.ready():
                piece.add(sample)
    progress(pending)
    frames = piece.finish()
    if not frames:
        raise Fault(
            "no_overlap", f"there is no time at which all topics have messages{_span(tracks, start_ns)}"
        )
    if frames < max(1, config.min_length_s * config.fps):
        raise Fault(
            "too_short",
            f"{frames / config.fps:.2f} s with all topics, min_length_s is {config.min_length_s:g}"
            f"{_span(tracks, start_ns)}",
        )
    offsets: dict[str, dict[str, float]] = {}
    gaps: dict[str, float] = {}
    for name, track in tracks.items():
        if isinstance(track, ImageTrack):
            offset_ms = np.abs(track.offsets_ns) / 1e6
            offsets[name.removeprefix("camera ")] = {
                "mean": round(float(offset_ms.mean()), 3),
                "max": round(float(offset_ms.max()), 3),
            }
        else:
            gaps[name] = round(track.largest_gap_ns / 1e6, 3)
    topics = {topic: clock.report() for topic, clock in sorted(values.clocks.items())}
    return Kept(frames, start_ns / NS, piece.image_shapes, offsets, gaps, topics)


def _find_start(reader: RecordingReader, values: MessageValues) -> int:
    """The first time that every track has a message at or before it, ns."""
    sources = values.sources
    wanted = {track for source in sources.values() for track in source.tracks}
    firsts: dict[str, int] = {}
    seen: set[str] = set()
    for message in reader.messages(sources):
        seen.add(message.topic)
        source = sources[message.topic]
        if source.image:
            if source.image not in firsts:
                firsts[source.image] = values.time_ns(message)
        elif not firsts.keys() >= set(source.tracks):
            for track, time_ns, _ in values.read(message):
                firsts.setdefault(track, time_ns)
        if len(firsts) == len(wanted):
            return max(firsts.values())
    if not seen:
        raise Fault("empty", f"no message on any of the topics {', '.join(sources)}")
    for topic, source in sources.items():
        if topic not in seen and not firsts.keys() >= set(source.tracks):
            raise Fault("missing_topic", f"no message on {topic}")
    missing = sorted(wanted - firsts.keys())
    raise Fault("missing_joint", f"no message has {', '.join(missing)}")


def _make_tracks(reader: RecordingReader, values: MessageValues, start_ns: int) -> Tracks:
    config = values.config
    offset_ns, gap_ns = round(config.max_offset_s * NS), round(config.max_gap_s * NS)
    tracks: Tracks = {}
    for name in config.joints.names:
        tracks[f"joint {name}"] = NumberTrack(f"joint {name}", start_ns, gap_ns, angle=True)
    if config.gripper:
        held = reader.types.get(config.gripper.topic) in HOLD_NUMBERS
        tracks["gripper"] = NumberTrack("gripper", start_ns, gap_ns, hold=held)
    if config.action.topic:
        for name in values.sources[config.action.topic].commands:
            tracks[name] = NumberTrack(name, start_ns, gap_ns, hold=True)
    for name, camera in config.cameras.items():
        tracks[f"camera {name}"] = ImageTrack(camera.topic, start_ns, offset_ns, MAX_PENDING_S * NS)
    return tracks


def _span(tracks: Tracks, start_ns: int) -> str:
    """From when to when all topics have messages, for a sentence about that time."""
    name, track = min(tracks.items(), key=lambda item: item[1].last_ns or 0)
    if not track.last_ns:
        return f"; {name} has none behind {start_ns / NS:.2f} s, when the last of them begins"
    ends = f"the first ends at {track.last_ns / NS:.2f} s ({name})"
    return f"; the last begins at {start_ns / NS:.2f} s, {ends}"


class _Decoder:
    """Images of all cameras."""

    def __init__(self, config: ConvertConfig, reader: RecordingReader):
        self.config, self.reader = config, reader
        self.compressed: dict[str, CompressedDecoder] = {}

    def __call__(self, name: str, message: Message) -> np.ndarray | av.VideoFrame:
        camera = self.config.cameras[name]
        content = self.reader.deserialize(message)
        try:
            if message.type == IMAGE_TYPES[0]:
                return decode_image(content, camera.depth_near_m, camera.depth_far_m)
            if name not in self.compressed:
                self.compressed[name] = CompressedDecoder(camera.depth_near_m, camera.depth_far_m)
            return self.compressed[name].decode(content)
        except Fault as fault:
            raise Fault(fault.code, f"{camera.topic}: {fault.message}") from fault
