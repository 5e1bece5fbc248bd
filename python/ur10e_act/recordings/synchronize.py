"""Resamples messages of different rates to one fixed rate, as a stream: memory holds what a row still needs.

Rows are at start + i / fps, from the first instant that every track covers to the last one. Images are
chosen, the nearest in time; numbers are interpolated between the two messages around the row, or held.
Times are whole nanoseconds; nothing here knows ROS.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from ur10e_act.recordings.fault import Fault

NS = 1_000_000_000
TURN = 2 * math.pi


class Track:
    """Messages of one kind, in order of time; keeps those from the last row on."""

    def __init__(self, name: str, start_ns: int):
        self.name, self.start_ns = name, start_ns
        self.times: deque[int] = deque()
        self.values: deque[Any] = deque()
        self.count = 0
        self.last_ns: int | None = None

    def push(self, time_ns: int, value: Any) -> None:
        """Appends a message; one at the same time as the last replaces it. Raises Fault(time_back)."""
        if self.last_ns is not None and time_ns < self.last_ns:
            back = (self.last_ns - time_ns) / NS
            raise Fault("time_back", f"{self.name}: time goes back by {back:.6f} s, {self.at(time_ns)}")
        if self.times and time_ns == self.times[-1]:
            self.values[-1] = value
            return
        self.last_ns = time_ns
        self.count += 1
        self.times.append(time_ns)
        self.values.append(value)
        self.drop_before(self.start_ns)

    def at(self, time_ns: int) -> str:
        return f"{(time_ns - self.start_ns) / NS:.3f} s after the start"

    def covers(self, time_ns: int) -> bool:
        """Whether the row at ``time_ns`` can be decided."""
        return bool(self.times) and self.times[-1] >= time_ns

    def drop_before(self, time_ns: int) -> None:
        """Forgets all before the last message at or before ``time_ns``."""
        while len(self.times) > 1 and self.times[1] <= time_ns:
            self.times.popleft()
            self.values.popleft()

    def around(self, time_ns: int) -> tuple[int, int]:
        """Positions of the last message at or before a row, and of the first at or after it."""
        self.drop_before(time_ns)
        return 0, 0 if self.times[0] >= time_ns else 1


class ImageTrack(Track):
    """Gives the image nearest to a row; of two equally near ones the earlier."""

    def __init__(self, name: str, start_ns: int, max_offset_ns: int, max_pending_ns: int):
        super().__init__(name, start_ns)
        self.max_offset_ns, self.max_pending_ns = max_offset_ns, max_pending_ns
        self.offsets_ns: list[int] = []
        self.overflow_ns: int | None = None

    def push(self, time_ns: int, value: Any) -> None:
        # Other tracks may have ended or stand still: what they might still need stays, and no more than that.
        if self.times and time_ns - self.times[0] > self.max_pending_ns:
            self.overflow_ns = time_ns if self.overflow_ns is None else self.overflow_ns
        if self.overflow_ns is None or (self.last_ns is not None and time_ns < self.last_ns):
            super().push(time_ns, value)
        else:
            self.last_ns = time_ns

    def covers(self, time_ns: int) -> bool:
        return super().covers(time_ns) or (self.overflow_ns is not None and self.overflow_ns >= time_ns)

    def sample(self, time_ns: int) -> Any:
        if self.overflow_ns is not None and self.times[-1] < time_ns:
            waited = self.max_pending_ns / NS
            raise Fault(
                "gap", f"{self.name}: other topics come more than {waited:.0f} s later, {self.at(time_ns)}"
            )
        before, after = self.around(time_ns)
        nearest = before if time_ns - self.times[before] <= self.times[after] - time_ns else after
        offset = self.times[nearest] - time_ns
        if abs(offset) > self.max_offset_ns:
            raise Fault(
                "gap",
                f"{self.name}: the nearest image is {abs(offset) / NS:.3f} s away from the row "
                f"{self.at(time_ns)}, more than max_offset_s ({self.max_offset_ns / NS:g})",
            )
        self.offsets_ns.append(offset)
        return self.values[nearest]


class NumberTrack(Track):
    """Gives a number: interpolated (angles the short way round), or with ``hold`` the last one.

    ``scale`` -1 turns the sign. Interpolated angles stay on the turn of the message nearer in time.
    """

    def __init__(self, name: str, start_ns: int, max_gap_ns: int, *, angle: bool = False, hold: bool = False):
        super().__init__(name, start_ns)
        self.max_gap_ns, self.angle, self.hold = max_gap_ns, angle, hold
        self.largest_gap_ns = 0

    def sample(self, time_ns: int) -> float:
        before, after = self.around(time_ns)
        first_ns, second_ns = self.times[before], self.times[after]
        gap = second_ns - first_ns
        self.largest_gap_ns = max(self.largest_gap_ns, gap)
        if gap > self.max_gap_ns:
            raise Fault(
                "gap",
                f"{self.name}: no message for {gap / NS:.3f} s, {self.at(first_ns)}, more than max_gap_s "
                f"({self.max_gap_ns / NS:g})",
            )
        first, second = self.values[before], self.values[after]
        if gap == 0 or second_ns == time_ns:
            return second
        if self.hold:
            return first
        share = (time_ns - first_ns) / gap
        step = wrapped(second - first) if self.angle else second - first
        value = first + share * step
        return value + (second - first - step) if share > 0.5 else value


def wrapped(angle: float) -> float:
    """An angle in [-pi, pi) rad."""
    return (angle + math.pi) % TURN - math.pi


class Synchronizer:
    """Rows of all tracks at a fixed rate.

    fps: rows a second. start_ns: time of the first row; every track must reach back to it. tracks: by name.
    """

    def __init__(self, fps: int, start_ns: int, tracks: dict[str, ImageTrack | NumberTrack]):
        self.fps, self.start_ns, self.tracks = fps, start_ns, tracks
        self.rows = 0

    def time_ns(self, row: int) -> int:
        return self.start_ns + (row * NS + self.fps // 2) // self.fps

    def ready(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(time in ns, {track: sample}) of every further row that all tracks cover. Raises Fault(gap)."""
        time_ns = self.time_ns(self.rows)
        while all(track.covers(time_ns) for track in self.tracks.values()):
            yield time_ns, {name: track.sample(time_ns) for name, track in self.tracks.items()}
            self.rows += 1
            time_ns = self.time_ns(self.rows)
        for track in self.tracks.values():
            track.drop_before(time_ns)
