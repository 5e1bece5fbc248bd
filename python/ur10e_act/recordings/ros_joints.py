"""Names and positions in sensor_msgs/JointState, which a UR10e sends 500 times a second.

A publisher's messages differ in stamp and numbers alone: what lies between, the names, is compared as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np


class JointReader:
    """Names and positions of JointState messages.

    deserialize: the full way to read a message, for its first and every unusual one.
    """

    def __init__(self, deserialize: Callable[[Any], Any]):
        self._deserialize = deserialize
        self._known: tuple[bytes, tuple[str, ...]] = (b"", ())

    def read(self, message: Any) -> tuple[tuple[str, ...], list[float]]:
        """The names and the positions of one message; as many as it holds of each."""
        data = message.data
        if data[:2] == b"\x00\x01":  # CDR, little-endian; what else there may be takes the full way
            start = _aligned(16 + struct.unpack_from("<I", data, 12)[0], 4)
            block, names = self._known
            if block and data[start : start + len(block)] == block:
                first = 4 + _aligned(start + len(block) - 4, 8)
                if first + 8 * len(names) <= len(data):
                    return names, np.frombuffer(data, "<f8", len(names), first).tolist()
        content = self._deserialize(message)
        names, positions = tuple(content.name), np.asarray(content.position, np.float64).tolist()
        if data[:2] == b"\x00\x01" and len(names) == len(positions) > 0:
            self._known = (_names_block(data, start, len(names)), names)
        return names, positions


def _names_block(data: bytes, start: int, count: int) -> bytes:
    """The bytes of the list of names, and of how many positions follow."""
    end = start + 4
    for _ in range(count):
        end = _aligned(end, 4)
        end += 4 + struct.unpack_from("<I", data, end)[0]
    return data[start : _aligned(end, 4) + 4]


def _aligned(offset: int, size: int) -> int:
    return -(-offset // size) * size
