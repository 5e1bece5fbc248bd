"""Finds the ROS 2 recordings below a directory, and the files that each consists of.

    python -m ur10e_act.recordings.find_recordings DIR

prints `recordings` or `dataset`, or says why it is neither.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ur10e_act.errors import UserError, run_cli

PART = re.compile(r"\.(db3|mcap)(\.zst|\.zstd)?$")
METADATA = "metadata.yaml"
JOURNALS = ("-wal", "-journal")  # what SQLite keeps beside a .db3 that was not closed


class Digests(NamedTuple):
    """``whole``: SHA-256 over names and bytes of a recording's files; ``content``: over the bytes of its
    parts alone; ``files``: bytes and MD5 of each, by path below the searched directory, as Blob lists them.
    """

    whole: str
    content: str
    files: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Recording:
    """One recording: ``name`` is its path below the searched directory, ``parts`` its files in order."""

    name: str
    path: Path
    parts: tuple[Path, ...]
    metadata: Path | None

    @property
    def bytes(self) -> int:
        return sum(part.stat().st_size for part in self.parts if part.is_file())

    def files(self) -> list[Path]:
        """All that the content depends on: parts, journals beside them, metadata.yaml."""
        beside = [part.with_name(part.name + end) for part in self.parts for end in JOURNALS]
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


def find_recordings(root: Path | str) -> list[Recording]:
    """The recordings in a directory, sorted by name; ``root`` may be one itself, or a single storage file.

    A directory with metadata.yaml or storage files is a recording; without metadata.yaml, files that are not
    numbered parts of one (NAME_0, NAME_1) are one each. A directory with nothing in it is an empty recording.
    Raises UserError where there is no such directory.
    """
    root = Path(root)
    if root.is_file() and PART.search(root.name):
        return [Recording(root.name, root, (root,), None)]
    if not root.is_dir():
        raise UserError(f"{root}: no such directory of recordings")
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


def _part_order(path: Path) -> tuple[int | str, ...]:
    """Parts are numbered NAME_0, NAME_1, ... NAME_10."""
    return tuple(int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name))


def folder_kind(root: Path | str) -> str:
    """``"dataset"`` (LeRobot) or ``"recordings"`` (ROS 2). Raises UserError for any other directory."""
    root = Path(root)
    if (root / "meta" / "info.json").is_file():
        return "dataset"
    if any(recording.parts or recording.metadata for recording in find_recordings(root)):
        return "recordings"
    raise UserError(
        f"{root}: holds neither a LeRobot dataset (meta/info.json) nor ROS 2 recordings (metadata.yaml, "
        ".mcap, .db3)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Tell whether a folder holds a LeRobot dataset or ROS 2 recordings."
    )
    parser.add_argument("folder", type=Path)
    print(folder_kind(parser.parse_args().folder))


if __name__ == "__main__":
    run_cli(main)
