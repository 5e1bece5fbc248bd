"""What a recording is on disk: its metadata.yaml, and its storage parts (.db3 or .mcap, each perhaps .zst).

`rosbags` reads the parts. What it ignores is looked up here: journals beside a .db3, files that end early,
and the order in which messages were written, which reading sorted by time would hide.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import apsw
import numpy as np
import yaml
import zstandard
from mcap.exceptions import McapError
from rosbags.rosbag2.errors import ReaderError

from ur10e_act.errors import one_line
from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.find_recordings import JOURNALS, Recording

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


@dataclass(frozen=True)
class Metadata:
    """``parts``: the recording's files in order. ``counts``: messages by topic as metadata.yaml has them."""

    parts: tuple[Path, ...]
    counts: dict[str, int]


def read_metadata(recording: Recording) -> Metadata:
    """What metadata.yaml says; without one, the files that are there, and no counts.

    Raises Fault where it cannot be read, or names other files than there are.
    """
    if recording.metadata is None:
        return Metadata(recording.parts, {})
    try:
        content = yaml.safe_load(recording.metadata.read_text(encoding="utf-8"))
        information = content["rosbag2_bagfile_information"]
        names = [Path(str(name)).name for name in information["relative_file_paths"]]
        counts = {
            topic["topic_metadata"]["name"]: int(topic["message_count"])
            for topic in information["topics_with_message_count"] or ()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise Fault("bad_metadata", f"metadata.yaml cannot be read ({one_line(error)})") from error
    here = {part.name: part for part in recording.parts}
    missing = [name for name in names if name not in here]
    if missing:
        raise Fault("missing_part", f"{', '.join(missing)}: named by metadata.yaml, not there")
    surplus = [name for name in here if name not in names]
    if surplus:
        raise Fault(
            "surplus_part",
            f"{', '.join(surplus)}: not named by metadata.yaml; move it away or fix metadata.yaml",
        )
    return Metadata(tuple(here[name] for name in names), counts)


def is_packed(part: Path) -> bool:
    return part.suffix in (".zst", ".zstd")


def journals(part: Path) -> list[Path]:
    """The journals beside a part that hold messages which are not in the part yet."""
    if is_packed(part):
        return []
    beside = [part.with_name(part.name + end) for end in JOURNALS]
    return [journal for journal in beside if journal.is_file() and journal.stat().st_size]


@contextmanager
def open_part(part: Path) -> Iterator[Path]:
    """The part as a file that rosbags reads whole: unpacked, with its journals applied, in a copy.

    Raises Fault where that fails.
    """
    if not part.stat().st_size:
        raise Fault("cut", f"{part.name} has no bytes")
    packed, beside = is_packed(part), journals(part)
    if not packed and not beside:
        yield part
        return
    with tempfile.TemporaryDirectory(prefix="recording-") as folder:
        copy = Path(folder) / (part.stem if packed else part.name)
        try:
            if packed:
                _unpack(part, copy)
            else:
                for file in (part, *beside):
                    shutil.copyfile(file, Path(folder) / file.name)
                with closing(sqlite3.connect(copy)) as database:
                    database.execute("PRAGMA journal_mode=DELETE").fetchall()
        except (OSError, EOFError, zstandard.ZstdError, sqlite3.Error) as error:
            code = "cut" if isinstance(error, EOFError) else "unreadable"
            raise Fault(code, f"{part.name}: {one_line(error)}") from error
        yield copy


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


def unpack_message(data: bytes) -> bytes:
    """A message as CDR; its first bytes tell whether it is packed, as metadata.yaml may be missing."""
    if data[:4] != ZSTD_MAGIC:
        return bytes(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def is_cut(file: Path) -> bool:
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


class Run(NamedTuple):
    """``messages`` of one connection, written one after the other with receive times that never go
    back: from ``first_ns`` to ``last_ns``."""

    connection: int
    first_ns: int
    last_ns: int
    messages: int


def written_runs(file: Path) -> Iterator[Run]:
    """All messages in the order of writing, by connection, without reading messages.

    Where times go back, a new run begins. A .mcap without message indexes has none.
    """
    if file.suffix == ".mcap":
        for channel, times in _mcap_index(file):
            for run in np.split(times, np.flatnonzero(times[1:] < times[:-1]) + 1):
                yield Run(channel, int(run[0]), int(run[-1]), len(run))
        return
    with closing(sqlite3.connect(f"file:{_quoted(file)}?immutable=1", uri=True)) as database:
        steps_back = database.execute(
            "SELECT topic_id, timestamp, before FROM (SELECT topic_id, timestamp, lag(timestamp) OVER "
            "(PARTITION BY topic_id ORDER BY id) AS before FROM messages) "
            "WHERE timestamp < before LIMIT 1000"
        )
        for topic, now, before in steps_back:
            # Only the two messages matter; the query below counts them.
            yield Run(topic, before, before, 0)
            yield Run(topic, now, now, 0)
        yield from map(
            Run._make,
            database.execute(
                "SELECT topic_id, min(timestamp), max(timestamp), count(*) FROM messages GROUP BY topic_id"
            ),
        )


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _mcap_index(file: Path) -> Iterator[tuple[int, np.ndarray]]:
    """(channel, log times in ns in the order of writing, uint64) of every message index with entries.

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
