"""ROS 2 recordings on disk: finding them, and reading messages from them without losing any in silence.

A recording is a folder of storage parts (.db3 or .mcap, each perhaps .zst) with a metadata.yaml. `rosbags`
opens and reads each part by itself, because its reader of whole folders loses topics whose QoS in
metadata.yaml differs, unpacks all compressed parts at once and believes metadata.yaml's counts. What it
ignores is looked up in the storage: journals beside a .db3, how many messages there are, and the order in
which they were written, which sorting by time would hide.

    python -m ur10e_act.recordings.bag_reader DIR

prints `recordings` or `dataset`, or says why it is neither
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sqlite3
import struct
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import numpy as np
import yaml
import zstandard
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from ur10e_act.errors import UserError, run_cli

PART = re.compile(r"\.(db3|mcap)(\.zst|\.zstd)?$")
METADATA = "metadata.yaml"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MCAP_MAGIC = b"\x89MCAP0\r\n"
# What the libraries raise for storage that is not whole: rosbags asserts and unpacks beyond ends, too.
READ_ERRORS = (
    ReaderError,
    McapError,
    apsw.Error,
    sqlite3.Error,
    zstandard.ZstdError,
    OSError,
    EOFError,
    ValueError,
    struct.error,
    TypeError,
    AssertionError,
    IndexError,
    KeyError,
    MemoryError,
    RuntimeError,
)


class RecordingFault(Exception):
    """Why a recording is not converted: a stable ``code`` for machines, and a sentence."""

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code, self.message = code, " ".join(message.split())


class Digests(NamedTuple):
    """``whole``: SHA-256 over names and bytes of a recording's files; ``content``: over the bytes of its
    parts alone; ``files``: bytes and MD5 of each, by path below the searched folder, as Blob lists them."""

    whole: str
    content: str
    files: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Recording:
    """One recording: ``name`` is its path below the searched folder, ``parts`` its files in order."""

    name: str
    path: Path
    parts: tuple[Path, ...]
    metadata: Path | None

    @property
    def bytes(self) -> int:
        return sum(part.stat().st_size for part in self.parts if part.is_file())

    def files(self) -> list[Path]:
        """All that the content depends on: parts, journals beside them, metadata.yaml."""
        beside = [part.with_name(part.name + end) for part in self.parts for end in ("-wal", "-journal")]
        return [file for file in (*self.parts, *beside, self.metadata) if file and file.is_file()]

    def digests(self) -> Digests:
        """Hashes of ``files()``, all from one reading."""
        content, names, files = hashlib.sha256(), [], {}
        top = self.path.parents[len(Path(self.name).parts) - 1]
        buffer = memoryview(bytearray(1 << 20))
        metadata = b""
        for file in self.files():
            size = file.stat().st_size
            names.append(f"{file.name} {size}\n")
            md5 = hashlib.md5(usedforsecurity=False)
            if file == self.metadata:
                metadata = file.read_bytes()
                md5.update(metadata)
            else:
                with file.open("rb", buffering=0) as source:
                    while count := source.readinto(buffer):
                        content.update(buffer[:count])
                        md5.update(buffer[:count])
            files[file.relative_to(top).as_posix()] = {"bytes": size, "md5": md5.hexdigest()}
        whole = hashlib.sha256("".join(names).encode() + content.digest() + metadata)
        return Digests(whole.hexdigest(), content.hexdigest(), files)


class Message(NamedTuple):
    """One stored message. ``received_ns``: when the recorder got it, ns; ``data``: CDR bytes."""

    topic: str
    type: str
    received_ns: int
    data: bytes


def _part_order(path: Path) -> tuple:
    """Parts are numbered NAME_0, NAME_1, ... NAME_10."""
    return tuple(int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name))


def find_recordings(root: Path | str) -> list[Recording]:
    """The recordings in a folder, sorted by name; ``root`` may be one itself, or a single storage file.

    A folder with metadata.yaml or storage files is a recording; without metadata.yaml, files that are not
    numbered parts of one (NAME_0, NAME_1) are one each. A folder with nothing in it is an empty recording.
    Raises UserError where there is no such folder.
    """
    root = Path(root)
    if root.is_file() and PART.search(root.name):
        return [Recording(root.name, root, (root,), None)]
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of recordings")
    found: list[Recording] = []

    def visit(folder: Path) -> None:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        name = folder.name if folder == root else folder.relative_to(root).as_posix()
        parts = sorted((e for e in entries if e.is_file() and PART.search(e.name)), key=_part_order)
        metadata = folder / METADATA
        if metadata.is_file():
            found.append(Recording(name, folder, tuple(parts), metadata))
        elif len({re.sub(r"_\d+$", "", PART.sub("", part.name)) for part in parts}) == 1 and folder != root:
            found.append(Recording(name, folder, tuple(parts), None))
        else:
            prefix = "" if folder == root else f"{name}/"
            found.extend(Recording(prefix + part.name, part, (part,), None) for part in parts)
        if not entries and folder != root:
            found.append(Recording(name, folder, (), None))
        for entry in entries:
            if entry.is_dir():
                visit(entry)

    visit(root)
    return sorted(found, key=lambda recording: recording.name)


def folder_kind(root: Path | str) -> str:
    """``"dataset"`` (LeRobot) or ``"recordings"`` (ROS 2). Raises UserError for any other folder."""
    root = Path(root)
    if (root / "meta" / "info.json").is_file():
        return "dataset"
    if any(recording.parts or recording.metadata for recording in find_recordings(root)):
        return "recordings"
    raise UserError(
        f"{root}: holds neither a LeRobot dataset (meta/info.json) nor ROS 2 recordings (metadata.yaml, "
        ".mcap, .db3)"
    )


class RecordingReader:
    """Reads the wanted topics of one recording, one part after the other.

    recover: take a cut .mcap up to its cut, and a recording without metadata.yaml.
    notes: what was found and could be mended, as (code, sentence); complete when reading has ended.
    counts: messages read by topic. types: message type by topic.

    Raises RecordingFault for whatever keeps messages from being read whole.
    """

    def __init__(self, recording: Recording, recover: bool = False):
        self.recording, self.recover = recording, recover
        self.notes: list[tuple[str, str]] = []
        self.counts: Counter = Counter()
        self.types: dict[str, str] = {}
        self._definitions: dict[str, Any] = {}
        self._stores: dict[str, Any] = {}
        self._last_written: dict[str, int] = {}
        self._cut = False
        self.metadata = self._read_metadata()
        self.parts = self._check_parts()

    def messages(self, topics: Iterable[str]) -> Iterator[Message]:
        """All messages on ``topics`` by receive time, part by part; faults surface as reading meets them."""
        wanted = set(topics)
        self.counts.clear()
        self._last_written.clear()
        self.notes = [note for note in self.notes if note[0] == "no_metadata"]
        self._cut = False
        for number, part in enumerate(self.parts):
            if self._cut:
                left = ", ".join(path.name for path in self.parts[number:])
                self._note("cut", f"{left}: left out, comes after the cut")
                break
            with self._storage(part) as file:
                yield from self._part_messages(part, file, wanted)
        self._compare_with_metadata(wanted)

    def deserialize(self, message: Message) -> Any:
        """The message as an object with the fields of its definition; numbers as numpy arrays.

        The definition in the recording counts, else that of ROS 2 Humble. Raises RecordingFault.
        """
        try:
            if message.type not in self._stores:
                self._stores[message.type] = _typestore(message.type, self._definitions.get(message.type))
            return self._stores[message.type].deserialize_cdr(message.data, message.type)
        except Exception as error:  # rosbags compiles each type's reader: anything may come of foreign bytes
            raise RecordingFault(
                "bad_message", f"{message.topic}: a {message.type} cannot be read ({_words(error)})"
            ) from error

    def _note(self, code: str, sentence: str) -> None:
        if (code, sentence) not in self.notes:
            self.notes.append((code, sentence))

    def _read_metadata(self) -> dict[str, Any]:
        if self.recording.metadata is None:
            if not self.recording.parts:
                raise RecordingFault("empty", "there is nothing in it")
            if not self.recover:
                raise RecordingFault(
                    "no_metadata",
                    "metadata.yaml is missing, so the recorder did not end in order; --recover takes what is "
                    "there",
                )
            self._note("no_metadata", "metadata.yaml is missing: the files that are there were taken")
            return {}
        try:
            content = yaml.safe_load(self.recording.metadata.read_text(encoding="utf-8"))
            return {
                "files": [
                    Path(str(name)).name
                    for name in content["rosbag2_bagfile_information"]["relative_file_paths"]
                ],
                "counts": {
                    topic["topic_metadata"]["name"]: int(topic["message_count"])
                    for topic in content["rosbag2_bagfile_information"]["topics_with_message_count"] or ()
                },
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise RecordingFault("bad_metadata", f"metadata.yaml cannot be read ({_words(error)})") from error

    def _check_parts(self) -> list[Path]:
        here = {part.name: part for part in self.recording.parts}
        if not self.metadata:
            return list(here.values())
        missing = [name for name in self.metadata["files"] if name not in here]
        if missing:
            raise RecordingFault("missing_part", f"{', '.join(missing)}: named by metadata.yaml, not there")
        surplus = [name for name in here if name not in self.metadata["files"]]
        if surplus:
            raise RecordingFault(
                "surplus_part",
                f"{', '.join(surplus)}: not named by metadata.yaml; move it away or mend metadata.yaml",
            )
        return [here[name] for name in self.metadata["files"]]

    @contextmanager
    def _storage(self, part: Path) -> Iterator[Path]:
        """The part as a file that rosbags reads whole: unpacked, with its journal applied."""
        if not part.stat().st_size:
            raise RecordingFault("cut", f"{part.name} has no bytes")
        journals = [part.with_name(part.name + end) for end in ("-wal", "-journal")]
        journals = [journal for journal in journals if journal.is_file() and journal.stat().st_size]
        packed = part.suffix in (".zst", ".zstd")
        if not packed and not journals:
            yield part
            return
        with tempfile.TemporaryDirectory(prefix="recording-") as folder:
            copy = Path(folder) / (part.stem if packed else part.name)
            try:
                if packed:
                    _unpack(part, copy)
                else:
                    for file in (part, *journals):
                        shutil.copyfile(file, Path(folder) / file.name)
                    with closing(sqlite3.connect(copy)) as database:
                        database.execute("PRAGMA journal_mode=DELETE").fetchall()
                    names = ", ".join(journal.name for journal in journals)
                    self._note("journal", f"{names}: what it holds was read, too")
            except (OSError, EOFError, zstandard.ZstdError, sqlite3.Error) as error:
                code = "cut" if isinstance(error, EOFError) else "unreadable"
                raise RecordingFault(code, f"{part.name}: {_words(error)}") from error
            yield copy

    def _part_messages(self, part: Path, file: Path, wanted: set[str]) -> Iterator[Message]:
        cut = _is_cut(file)
        if cut and not (self.recover and file.suffix == ".mcap"):
            advice = "; --recover takes it up to the cut" if file.suffix == ".mcap" else ""
            raise RecordingFault("cut", f"{part.name} is cut off{advice}")
        read: Counter = Counter()
        try:
            if cut:
                self._cut = True
                source = self._recovered(part, file, wanted)
            else:
                source = self._stored(part, file, wanted, read)
            for message in source:
                read[message.topic] += 1
                yield message
        except READ_ERRORS as error:
            raise RecordingFault("unreadable", f"{part.name}: {_words(error)}") from error
        self.counts.update(read)

    def _stored(self, part: Path, file: Path, wanted: set[str], read: Counter) -> Iterator[Message]:
        """Messages of one whole part; afterwards, whether they are as many as the storage says."""
        with Reader(file) as reader:
            connections = [connection for connection in reader.connections if connection.topic in wanted]
            stored: Counter = Counter()
            for connection in connections:
                stored[connection.topic] += connection.msgcount
                self._register(
                    connection.topic,
                    connection.msgtype,
                    connection.msgdef.format.name,
                    connection.msgdef.data,
                )
            self._check_written_order(part, file, {c.id: c.topic for c in connections}, stored)
            for connection, received, data in reader.messages(connections) if connections else ():
                yield Message(connection.topic, connection.msgtype, received, _unpacked(data))
        for topic, count in stored.items():
            if read[topic] != count:
                raise RecordingFault(
                    "lost_messages", f"{part.name}: {read[topic]} of {count} messages on {topic} can be read"
                )

    def _recovered(self, part: Path, file: Path, wanted: set[str]) -> Iterator[Message]:
        last = 0
        with file.open("rb") as content:
            try:
                for schema, channel, message in NonSeekingReader(content).iter_messages(log_time_order=False):
                    if channel.topic not in wanted or schema is None:
                        continue
                    kind = "IDL" if "idl" in schema.encoding else "MSG"
                    self._register(channel.topic, schema.name, kind, schema.data.decode())
                    self._follow_order(channel.topic, message.log_time, message.log_time, part)
                    last = max(last, message.log_time)
                    yield Message(channel.topic, schema.name, message.log_time, _unpacked(message.data))
            except RecordingFault:
                raise
            except READ_ERRORS as error:
                reason = _words(error)
            else:
                reason = "its end is missing"
        self._note("cut", f"{part.name}: taken up to its cut at {last / 1e9:.3f} s ({reason})")

    def _register(self, topic: str, kind: str, form: str, definition: str) -> None:
        if self.types.setdefault(topic, kind) != kind:
            raise RecordingFault("two_types", f"{topic} has messages of type {self.types[topic]} and {kind}")
        if form != "NONE":
            self._definitions.setdefault(kind, (form, definition))

    def _check_written_order(self, part: Path, file: Path, topics: dict[int, str], stored: Counter) -> None:
        """Refuses receive times that go back in the order of writing, which reading sorted would hide."""
        if file.suffix == ".mcap":
            indexed: Counter = Counter()
            for channel, times in _mcap_index(file):
                if channel in topics:
                    indexed[topics[channel]] += len(times)
                    back = np.flatnonzero(np.diff(times.astype(np.int64)) < 0)
                    if len(back):
                        self._follow_order(topics[channel], int(times[back[0]]), int(times[back[0]]), part)
                        self._follow_order(topics[channel], int(times[back[0] + 1]), 0, part)
                    self._follow_order(topics[channel], int(times[0]), int(times[-1]), part)
            # A file whose messages are not in chunks, or that has no index, counts in its summary only.
            for topic, count in indexed.items():
                stored[topic] = max(stored[topic], count)
            return
        with closing(sqlite3.connect(f"file:{_quoted(file)}?immutable=1", uri=True)) as database:
            rows = database.execute(
                "SELECT topic_id, timestamp, before FROM (SELECT topic_id, timestamp, lag(timestamp) OVER "
                "(PARTITION BY topic_id ORDER BY id) AS before FROM messages) "
                "WHERE timestamp < before LIMIT 1000"
            )
            for topic, now, before in rows:
                if topic in topics:
                    self._follow_order(topics[topic], before, before, part)
                    self._follow_order(topics[topic], now, now, part)
            ranges = database.execute(
                "SELECT topic_id, min(timestamp), max(timestamp) FROM messages GROUP BY topic_id"
            )
            for topic, first, last in ranges:
                if topic in topics:
                    self._follow_order(topics[topic], first, last, part)

    def _follow_order(self, topic: str, first: int, last: int, part: Path) -> None:
        before = self._last_written.get(topic)
        if before is not None and first < before:
            back = (before - first) / 1e9
            raise RecordingFault(
                "time_back", f"{part.name}: receive times of {topic} go back by {back:.6f} s"
            )
        self._last_written[topic] = last

    def _compare_with_metadata(self, wanted: set[str]) -> None:
        for topic, count in (self.metadata or {"counts": {}})["counts"].items():
            if topic not in wanted or self._cut or count == self.counts[topic]:
                continue
            sentence = (
                f"metadata.yaml counts {count} messages on {topic}, the storage holds {self.counts[topic]}"
            )
            if count > self.counts[topic]:
                raise RecordingFault("lost_messages", sentence)
            self._note("metadata_counts", f"{sentence}: all were read")


def survey(reader: RecordingReader) -> dict[str, tuple[str, int, float]]:
    """Every topic of a recording: its type, how many messages the storage counts, and in how many seconds.

    Raises RecordingFault where a part cannot be opened.
    """
    found: dict[str, list[Any]] = {}
    for part in reader.parts:
        with reader._storage(part) as file:
            if _is_cut(file):
                raise RecordingFault("cut", f"{part.name} is cut off")
            try:
                with Reader(file) as storage:
                    for connection in storage.connections:
                        topic = found.setdefault(connection.topic, [connection.msgtype, 0, 0.0])
                        topic[1] += connection.msgcount
                        topic[2] += storage.duration / 1e9
            except READ_ERRORS as error:
                raise RecordingFault("unreadable", f"{part.name}: {_words(error)}") from error
    return {topic: (kind, count, seconds) for topic, (kind, count, seconds) in found.items()}


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _unpacked(data: bytes) -> bytes:
    """A message as CDR; whether it is packed is told by its first bytes, as metadata.yaml may be missing."""
    if data[:4] != ZSTD_MAGIC:
        return bytes(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _unpack(part: Path, target: Path) -> None:
    """Unpacks a .zst file. Raises EOFError where it is cut."""
    with part.open("rb") as source, target.open("wb") as sink:
        inflater = zstandard.ZstdDecompressor().decompressobj()
        while chunk := source.read(1 << 20):
            while chunk:
                sink.write(inflater.decompress(chunk))
                chunk = inflater.unused_data if inflater.eof else b""
                if inflater.eof and chunk:
                    inflater = zstandard.ZstdDecompressor().decompressobj()
        if not inflater.eof:
            raise EOFError("is cut off")


def _is_cut(file: Path) -> bool:
    """Whether a storage file ends before its own header or footer says."""
    size = file.stat().st_size
    with file.open("rb") as content:
        if file.suffix == ".mcap":
            content.seek(max(0, size - len(MCAP_MAGIC)))
            return size < 2 * len(MCAP_MAGIC) or content.read() != MCAP_MAGIC
        header = content.read(100)
    if len(header) < 100:
        return True
    page, pages = struct.unpack_from(">H", header, 16)[0], struct.unpack_from(">I", header, 28)[0]
    # SQLite itself trusts the count of pages only where these two agree.
    known = header[24:28] == header[92:96] and header.startswith(b"SQLite format 3\0")
    return known and (65536 if page == 1 else page) * pages > size


def _mcap_index(file: Path) -> Iterator[tuple[int, np.ndarray]]:
    """(channel, log times in ns in the order of writing) of every message index, without reading messages.

    https://mcap.dev/spec: records are an opcode, a length and content; 0x07 indexes the chunk before it.
    """
    with file.open("rb") as content:
        content.seek(len(MCAP_MAGIC))
        while len(head := content.read(9)) == 9:
            operation, length = struct.unpack("<BQ", head)
            if operation == 0x0F:
                return
            if operation == 0x05:
                channel, _, time = struct.unpack("<HIQ", content.read(14))
                yield channel, np.array([time], np.uint64)
                content.seek(length - 14, 1)
            elif operation == 0x07:
                record = content.read(length)
                entries = np.frombuffer(record[6:], "<u8").reshape(-1, 2)
                if len(entries):
                    yield (
                        struct.unpack_from("<H", record)[0],
                        entries[np.argsort(entries[:, 1], kind="stable"), 0],
                    )
            else:
                content.seek(length, 1)


def _typestore(kind: str, definition: tuple[str, str] | None) -> Any:
    if definition is None:
        return get_typestore(Stores.ROS2_HUMBLE)
    store = get_typestore(Stores.EMPTY)
    form, text = definition
    if form == "MSG":
        store.register(get_types_from_msg(text, kind))
        return store
    separator = "=" * 80 + "\n"
    for piece in text.split(separator):
        if piece.strip():
            store.register(
                get_types_from_idl(piece.split("\n", 1)[1] if piece.startswith("IDL: ") else piece)
            )
    return store


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Tell whether a folder holds a LeRobot dataset or ROS 2 recordings."
    )
    parser.add_argument("folder", type=Path)
    print(folder_kind(parser.parse_args().folder))


if __name__ == "__main__":
    run_cli(main)
