"""Reads the messages of ROS 2 recordings in order, without losing any in silence.

`rosbags` opens and reads each storage part by itself, because its reader of whole directories loses topics
whose QoS in metadata.yaml differs, unpacks all compressed parts at once and believes metadata.yaml's counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mcap.reader import NonSeekingReader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from ur10e_act.errors import one_line
from ur10e_act.recordings.bag_storage import (
    READ_ERRORS,
    is_cut,
    journals,
    open_part,
    read_metadata,
    unpack_message,
    written_runs,
)
from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.find_recordings import Recording


class Message(NamedTuple):
    """One stored message. ``received_ns``: when the recorder got it, ns; ``data``: CDR bytes."""

    topic: str
    type: str
    received_ns: int
    data: bytes


class RecordingReader:
    """Reads the wanted topics of one recording, one part after the other.

    recover: take a cut .mcap up to its cut, and a recording without metadata.yaml.
    notes: what was found and could be worked around, as (code, sentence); complete when reading has ended.
    counts: messages read by topic. types: message type by topic.

    Raises Fault for whatever keeps messages from being read whole.
    """

    def __init__(self, recording: Recording, recover: bool = False):
        self.recover = recover
        self.notes: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.types: dict[str, str] = {}
        self._definitions: dict[str, tuple[str, str]] = {}
        self._stores: dict[str, Any] = {}
        self._last_written: dict[str, int] = {}
        self._cut = False
        if recording.metadata is None:
            if not recording.parts:
                raise Fault("empty", "there is nothing in it")
            if not recover:
                raise Fault(
                    "no_metadata",
                    "metadata.yaml is missing, so the recorder did not end in order; --recover takes what is "
                    "there",
                )
            self._note("no_metadata", "metadata.yaml is missing: the files that are there were taken")
        self._metadata = read_metadata(recording)
        self.parts = self._metadata.parts

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
            with open_part(part) as file:
                if beside := ", ".join(journal.name for journal in journals(part)):
                    self._note("journal", f"{beside}: what it holds was read, too")
                yield from self._part_messages(part, file, wanted)
        self._compare_with_metadata(wanted)

    def deserialize(self, message: Message) -> Any:
        """The message as an object with the fields of its definition; numbers as numpy arrays.

        The definition in the recording counts, else that of ROS 2 Humble. Raises Fault.
        """
        try:
            if message.type not in self._stores:
                self._stores[message.type] = _typestore(message.type, self._definitions.get(message.type))
            return self._stores[message.type].deserialize_cdr(message.data, message.type)
        except Exception as error:  # rosbags compiles each type's reader: foreign bytes may raise anything
            raise Fault(
                "bad_message", f"{message.topic}: a {message.type} cannot be read ({one_line(error)})"
            ) from error

    def _note(self, code: str, sentence: str) -> None:
        if (code, sentence) not in self.notes:
            self.notes.append((code, sentence))

    def _part_messages(self, part: Path, file: Path, wanted: set[str]) -> Iterator[Message]:
        cut = is_cut(file)
        if cut and not (self.recover and file.suffix == ".mcap"):
            advice = "; --recover takes it up to the cut" if file.suffix == ".mcap" else ""
            raise Fault("cut", f"{part.name} is cut off{advice}")
        read: Counter[str] = Counter()
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
            raise Fault("unreadable", f"{part.name}: {one_line(error)}") from error
        self.counts.update(read)

    def _stored(self, part: Path, file: Path, wanted: set[str], read: Counter[str]) -> Iterator[Message]:
        """Messages of one whole part; afterwards, whether they are as many as the storage says."""
        with Reader(file) as reader:
            connections = [connection for connection in reader.connections if connection.topic in wanted]
            stored: Counter[str] = Counter()
            for connection in connections:
                stored[connection.topic] += connection.msgcount
                self._register(
                    connection.topic,
                    connection.msgtype,
                    connection.msgdef.format.name,
                    connection.msgdef.data,
                )
            written = self._check_written_order(part, file, {c.id: c.topic for c in connections})
            # A .mcap whose messages are not in chunks, or that has no index, counts in its summary only.
            for topic, count in written.items():
                stored[topic] = max(stored[topic], count)
            for connection, received, data in reader.messages(connections) if connections else ():
                yield Message(connection.topic, connection.msgtype, received, unpack_message(data))
        for topic, count in stored.items():
            if read[topic] != count:
                raise Fault(
                    "lost_messages", f"{part.name}: {read[topic]} of {count} messages on {topic} can be read"
                )

    def _recovered(self, part: Path, file: Path, wanted: set[str]) -> Iterator[Message]:
        """Messages of a .mcap up to its cut."""
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
                    yield Message(channel.topic, schema.name, message.log_time, unpack_message(message.data))
                reason = "its end is missing"
            except READ_ERRORS as error:
                reason = one_line(error)
        self._note("cut", f"{part.name}: taken up to its cut at {last / 1e9:.3f} s ({reason})")

    def _register(self, topic: str, kind: str, form: str, definition: str) -> None:
        if self.types.setdefault(topic, kind) != kind:
            raise Fault("two_types", f"{topic} has messages of type {self.types[topic]} and {kind}")
        if form != "NONE":
            self._definitions.setdefault(kind, (form, definition))

    def _check_written_order(self, part: Path, file: Path, topics: dict[int, str]) -> Counter[str]:
        """Refuses receive times that go back in the order of writing, which reading sorted would hide.

        topics: by connection. Returns how many messages of each have been written in runs.
        """
        counts: Counter[str] = Counter()
        for run in written_runs(file):
            if run.connection in topics:
                topic = topics[run.connection]
                counts[topic] += run.messages
                self._follow_order(topic, run.first_ns, run.last_ns, part)
        return counts

    def _follow_order(self, topic: str, first_ns: int, last_ns: int, part: Path) -> None:
        before = self._last_written.get(topic)
        if before is not None and first_ns < before:
            back = (before - first_ns) / 1e9
            raise Fault("time_back", f"{part.name}: receive times of {topic} go back by {back:.6f} s")
        self._last_written[topic] = last_ns

    def _compare_with_metadata(self, wanted: set[str]) -> None:
        for topic, count in self._metadata.counts.items():
            if topic not in wanted or self._cut or count == self.counts[topic]:
                continue
            sentence = (
                f"metadata.yaml counts {count} messages on {topic}, the storage holds {self.counts[topic]}"
            )
            if count > self.counts[topic]:
                raise Fault("lost_messages", sentence)
            self._note("metadata_counts", f"{sentence}: all were read")


class Topic(NamedTuple):
    """A topic as the storage describes it: message type, how many messages in how many seconds."""

    type: str
    messages: int
    seconds: float


def survey(reader: RecordingReader) -> dict[str, Topic]:
    """Every topic of a recording, without reading messages. Raises Fault where a part cannot be opened."""
    found: dict[str, Topic] = {}
    for part in reader.parts:
        with open_part(part) as file:
            if is_cut(file):
                raise Fault("cut", f"{part.name} is cut off")
            try:
                with Reader(file) as storage:
                    for connection in storage.connections:
                        kind, count, seconds = found.get(connection.topic, (connection.msgtype, 0, 0.0))
                        found[connection.topic] = Topic(
                            kind, count + connection.msgcount, seconds + storage.duration / 1e9
                        )
            except READ_ERRORS as error:
                raise Fault("unreadable", f"{part.name}: {one_line(error)}") from error
    return found


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
