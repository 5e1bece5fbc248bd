"""What a folder holds: names, bytes, MD5 and links, and the manifest that says so.

One format serves both ends. In Blob ``.manifest.json`` is the last thing that a publication writes, so that
its presence and its agreement with the listing tell a complete upload from a half one. In a fetched folder it
is the record of what was downloaded, with each file's times, so that an unchanged folder needs no hashing.

Paths are relative, with ``/``, and never lead out of the folder. Sizes are bytes, MD5s are 32 hex digits.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ur10e_act.errors import UserError

MANIFEST = ".manifest.json"
# azcopy writes NAME as .azDownload-<job>-NAME first, and file systems end at 255 bytes.
LONGEST_NAME_BYTES = 206

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Entry:
    """One file. ``md5`` is None where the source has none; ``modified`` is the source's word for its version;
    ``stat`` is (mtime in ns, ctime in ns, inode) of the local file when its bytes were last hashed, or ()."""

    bytes: int
    md5: str | None = None
    modified: str = ""
    stat: tuple[int, ...] = ()


@dataclass
class Manifest:
    """Files and links by path. ``source`` says where they come from, ``origin_md5`` is the MD5 of the
    manifest there."""

    files: dict[str, Entry] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    source: str = ""
    origin_md5: str = ""

    def total_bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())

    def dumps(self) -> bytes:
        """The same content gives the same bytes."""
        files: dict[str, dict[str, Any]] = {}
        for path, entry in self.files.items():
            files[path] = {"bytes": entry.bytes, "md5": entry.md5}
            if entry.modified:
                files[path]["modified"] = entry.modified
            if entry.stat:
                files[path]["stat"] = list(entry.stat)
        content = {"version": 1, "files": files, "links": self.links}
        if self.source:
            content.update(source=self.source, origin_md5=self.origin_md5)
        return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def load_manifest(text: bytes, where: str) -> Manifest:
    """The manifest in ``text``. UserError when it is none, or names what leads out of its folder."""
    try:
        content = json.loads(text)
        if content["version"] != 1:
            raise ValueError("version")
        manifest = Manifest(
            {
                str(path): Entry(
                    int(item["bytes"]),
                    item["md5"],
                    item.get("modified", ""),
                    tuple(map(int, item.get("stat", ()))),
                )
                for path, item in content["files"].items()
            },
            {str(path): str(target) for path, target in content["links"].items()},
            content.get("source", ""),
            content.get("origin_md5", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{where} is not a manifest of publish.sh: publish the folder again") from None
    local_names([*manifest.files, *manifest.links], where)
    for path, target in manifest.links.items():
        if os.path.isabs(target) or _leads_out(os.path.join(os.path.dirname(path), target)):
            raise UserError(f"{where}: link {path!r} leads out of the folder: publish the folder again")
    return manifest


def read_record(root: Path, name: str = MANIFEST) -> Manifest:
    """The record in a fetched folder; an empty one where there is none or it cannot be read."""
    try:
        return load_manifest((root / name).read_bytes(), str(root / name))
    except (OSError, UserError):
        return Manifest()


def local_names(names: Iterable[str], where: str) -> dict[str, str]:
    """Local path -> name in the source, for every name; markers of folders (they end in ``/``) are left
    out.

    Raises UserError for a name that leads out of the folder, that azcopy cannot download, or that meets
    another one.
    """
    names_by_path: dict[str, str] = {}
    for name in names:
        if name == "" or name.endswith("/"):
            continue
        segments = [segment for segment in name.split("/") if segment not in ("", ".")]
        if ".." in segments:
            raise UserError(f"{where}: {name!r} would be written outside the folder: rename it at the source")
        if not segments or _CONTROL.search(name) or "\ufffd" in name:
            raise UserError(
                f"{where}: {name!r} is not a name or holds a control character: rename it at the source"
            )
        if any(len(segment.encode(errors="surrogatepass")) > LONGEST_NAME_BYTES for segment in segments):
            raise UserError(
                f"{where}: {name!r} has a part of more than {LONGEST_NAME_BYTES} bytes,"
                " which azcopy cannot download: rename it at the source"
            )
        path = "/".join(segments)
        if path in names_by_path:
            raise UserError(
                f"{where}: {names_by_path[path]!r} and {name!r} would be one file: rename one at the source"
            )
        names_by_path[path] = name
    for path in names_by_path:
        for folder in _folders_of(path):
            if folder in names_by_path:
                raise UserError(
                    f"{where}: {names_by_path[folder]!r} would be both a file and the folder of"
                    f" {names_by_path[path]!r}: rename one at the source"
                )
    return names_by_path


def manifest_of(root: Path) -> Manifest:
    """The files (without MD5) and links of a user's folder.

    A link that stays in the folder is kept as a link; one that leads out of it is followed. UserError for a
    link that leads nowhere or round in circles, for what is neither file nor folder, and for names that are
    no UTF-8.
    """
    tree = Manifest()
    real_root = os.path.realpath(root)

    def visit(folder: str, above: tuple[str, ...]) -> None:
        real = os.path.realpath(os.path.join(root, folder))
        if real in above:
            raise UserError(f"{root}: {folder!r} is a link round in circles: remove it")
        with os.scandir(os.path.join(root, folder)) as items:
            for item in sorted(items, key=lambda item: item.name):
                path = f"{folder}/{item.name}" if folder else item.name
                try:
                    path.encode()
                except UnicodeEncodeError:
                    raise UserError(f"{root}: the name {path!r} is not UTF-8: rename it") from None
                if path == MANIFEST:
                    continue
                if item.is_symlink():
                    target = _inside(real_root, folder, item)
                    if target is not None:
                        tree.links[path] = target
                        continue
                status = item.stat()
                if stat.S_ISDIR(status.st_mode):
                    visit(path, (*above, real))
                elif stat.S_ISREG(status.st_mode):
                    tree.files[path] = Entry(status.st_size, modified=str(status.st_mtime_ns))
                else:
                    raise UserError(f"{root}: {path!r} is neither a file nor a folder: remove it")

    visit("", ())
    return tree


def list_files(root: Path) -> set[str]:
    """Every path in ``root`` that is not a directory; links are not followed. Empty where there is no such
    folder."""
    found: set[str] = set()

    def visit(folder: str) -> None:
        with os.scandir(os.path.join(root, folder)) as items:
            for item in items:
                path = f"{folder}/{item.name}" if folder else item.name
                if item.is_dir(follow_symlinks=False):
                    visit(path)
                else:
                    found.add(path)

    if root.is_dir():
        visit("")
    return found


class Hasher:
    """Hashes files of ``root`` on all cores while the caller continues; use as a context manager.

    Links are not followed unless ``follow_links``; what is not a regular file is left out of the result.
    """

    def __init__(self, root: Path, follow_links: bool = False):
        self.root = root
        self.follow_links = follow_links
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._stopped = False
        self._found: dict[str, Future[Entry | None]] = {}

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._pool.shutdown(cancel_futures=True)

    def add(self, paths: Iterable[str]) -> None:
        """Begin with those of ``paths`` that are there and were not added before."""
        for path in paths:
            if path not in self._found and _status(self.root / path, self.follow_links):
                self._found[path] = self._pool.submit(self._look, path)

    def result(self) -> dict[str, Entry]:
        """Bytes, MD5 and times of all that were added; waits for them."""
        entries = {path: future.result() for path, future in self._found.items()}
        return {path: entry for path, entry in entries.items() if entry}

    def _look(self, path: str) -> Entry | None:
        # Times are read first: a file written to meanwhile will not match them later.
        status = _status(self.root / path, self.follow_links)
        if not status:
            return None
        digest = hashlib.md5(usedforsecurity=False)
        buffer = memoryview(bytearray(1 << 20))
        with open(self.root / path, "rb", buffering=0) as file:
            while not self._stopped and (count := file.readinto(buffer)):
                digest.update(buffer[:count])
        return Entry(status.st_size, digest.hexdigest(), stat=_times(status))


def hash_files(root: Path, paths: Iterable[str], follow_links: bool = False) -> dict[str, Entry]:
    """Bytes, MD5 and times of files as they are now; what is not a regular file is left out."""
    with Hasher(root, follow_links) as hasher:
        hasher.add(paths)
        return hasher.result()


def intact(
    root: Path, wanted: Mapping[str, Entry], record: Manifest, same_source: bool, verify: bool = False
) -> dict[str, Entry]:
    """Which wanted files ``root`` has, byte for byte, each with its MD5 and times.

    A file whose size and times are those of the record is not hashed again, unless ``verify``. Where the
    source has no MD5, its version (``modified``) must be the recorded one and the bytes those recorded.
    """
    good: dict[str, Entry] = {}
    unsure: list[str] = []
    for path, entry in wanted.items():
        status = _status(root / path)
        if status is None or status.st_size != entry.bytes:
            continue
        known = record.files.get(path, Entry(-1))
        if entry.md5 is None and not (
            same_source and known.bytes == entry.bytes and known.modified == entry.modified
        ):
            continue
        if (
            known.stat
            and known.stat == _times(status)
            and not verify
            and known.md5
            and entry.md5 in (None, known.md5)
        ):
            good[path] = Entry(entry.bytes, known.md5, entry.modified, known.stat)
        else:
            unsure.append(path)
    for path, found in hash_files(root, unsure).items():
        known_md5 = record.files[path].md5 if path in record.files else None
        expected = wanted[path].md5 or known_md5 or found.md5
        if found.bytes == wanted[path].bytes and found.md5 == expected:
            good[path] = Entry(found.bytes, found.md5, wanted[path].modified, found.stat)
    return good


def with_current_times(root: Path, entry: Entry, path: str) -> Entry:
    """``entry`` with the file's times as they are after links to it came and went, which changes its ctime
    alone."""
    status = _status(root / path)
    if status is None or status.st_size != entry.bytes or _times(status)[0::2] != entry.stat[0::2]:
        return entry
    return Entry(entry.bytes, entry.md5, entry.modified, _times(status))


def _status(path: Path, follow_links: bool = False) -> os.stat_result | None:
    try:
        status = os.stat(path, follow_symlinks=follow_links)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _folders_of(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _leads_out(path: str) -> bool:
    return os.path.normpath(path).split("/")[0] == ".."


def _inside(real_root: str, folder: str, item: os.DirEntry) -> str | None:
    """Where the link ``item`` of ``folder`` leads, relative to ``folder``; None if out of the root."""
    real = os.path.realpath(item.path)
    if not os.path.exists(real):
        raise UserError(f"{item.path} is a link to nothing: remove it, or restore {os.readlink(item.path)}")
    if real != real_root and not real.startswith(real_root + os.sep):
        return None
    return os.path.relpath(real, os.path.join(real_root, folder))
