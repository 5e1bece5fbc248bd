"""Download one dataset or one set of recordings to a local folder, whole or not at all.

From Azure Blob where credentials are configured, else from LOCALPATH; stderr says which and why, stdout is
the folder. The source is listed and checked first, files go to a staging folder beside DEST, are compared
with the listing, and move into place together. DEST then holds the source's files and ``.manifest.json``,
nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ur10e_act.atomic_io import Lock, replace_directory, write_file
from ur10e_act.blob.azcopy import Azcopy, Progress
from ur10e_act.blob.credentials import find_credentials
from ur10e_act.blob.location import parse_location, source_of
from ur10e_act.blob.manifest import (
    MANIFEST,
    Entry,
    Hasher,
    Manifest,
    hash_files,
    intact,
    list_files,
    local_names,
    manifest_of,
    read_record,
    with_current_times,
)
from ur10e_act.blob.publish import published_manifest
from ur10e_act.blob.run_transfer import run_transfer
from ur10e_act.errors import TryAgain, UserError


class NothingThere(UserError):
    """The source holds nothing, or nothing that publish.sh has written to its end where that is wanted."""


class Source(Protocol):
    """What is wanted, and how to download it."""

    wanted: Manifest

    def copy(self, missing: Sequence[str], staging: Path, some_came: Callable[[], None]) -> None:
        """Write the files ``missing`` under ``staging``, calling ``some_came`` now and then; UserError when
        that fails. The caller compares them with ``wanted``."""


class BlobSource:
    """A prefix of a container. With ``need_manifest``, one that publish.sh has written to its end."""

    def __init__(self, azcopy: Azcopy, known: Manifest, need_manifest: bool):
        self.azcopy = azcopy
        where = str(azcopy.location)
        listing = {blob.name: blob for blob in azcopy.list()}
        published = listing.pop(MANIFEST, None)
        self.names = local_names(listing, where)
        listed = {
            path: Entry(listing[name].bytes, listing[name].md5, listing[name].modified)
            for path, name in self.names.items()
        }
        self.listed = len(listing)
        if published is None and need_manifest:
            raise NothingThere(
                f"{where} has no {MANIFEST}: its upload has not ended, or publish.sh did not make it"
            )
        if published is None:
            if not listed:
                raise NothingThere(f"{where} holds no files: check the container and the prefix")
            self.wanted = Manifest(listed, source=where)
        else:
            self.wanted = self._published(published.md5 or "", known, listed, where)

    def leave_out(self, recordings: Iterable[Mapping[str, Any]]) -> int:
        """Do not want those of ``recordings`` (bytes and MD5 of files, by path) that are here as they were;
        how many."""
        count = 0
        for files in recordings:
            if all(
                (entry := self.wanted.files.get(path)) is not None
                and (entry.bytes, entry.md5) == (file["bytes"], file["md5"])
                for path, file in files.items()
            ):
                count += 1
                for path in files:
                    del self.wanted.files[path]
        return count

    def _published(self, md5: str, known: Manifest, listed: Mapping[str, Entry], where: str) -> Manifest:
        manifest = known if md5 and known.origin_md5 == md5 else published_manifest(self.azcopy)
        bad = [
            path
            for path, entry in manifest.files.items()
            if path not in listed or (listed[path].bytes, listed[path].md5) != (entry.bytes, entry.md5)
        ]
        if bad:
            raise TryAgain(
                f"{where}: {len(bad)} of {len(manifest.files)} files are not as {MANIFEST} says,"
                f" like {bad[0]!r}: an upload has not ended; wait for it or publish again"
            )
        files = {path: listed[path] for path in manifest.files}
        return Manifest(files, manifest.links, source=where, origin_md5=md5)

    def copy(self, missing: Sequence[str], staging: Path, some_came: Callable[[], None]) -> None:
        # The caller compares every MD5; to have azcopy do it as well would cost as much again.
        options = ["--recursive", "--from-to=BlobLocal", "--overwrite=false", "--check-md5=NoCheck"]
        if self.listed > len(self.wanted.files):
            # Costs two requests a file, but downloads nothing else: azcopy would try to make a file of a
            # marker of a folder, and remove the folder when that fails.
            names = self.azcopy.work / "names"
            names.write_text("".join(self.names[path] + "\n" for path in missing))
            options += ["--list-of-files", str(names)]
        of_bytes = sum(self.wanted.files[path].bytes for path in missing)
        progress = Progress("fetching")

        def show(content: dict) -> None:
            done = int(content["TransfersCompleted"])
            progress.show(done, len(missing), int(content["TotalBytesTransferred"]), of_bytes)
            some_came()

        try:
            status = self.azcopy.copy(
                self.azcopy.location.url() + "/*",
                self.azcopy.link("staging", staging),
                *options,
                progress=show,
            )
        finally:
            progress.close()
        if status == 0:
            return
        there = [path for path in missing if (staging / path).is_file()]
        raise self.azcopy.failure(
            f"{self.azcopy.location}: {len(there)} of {len(missing)} files came (kept for the next run)"
        )


class LocalSource:
    """A folder of this machine. Its files are copied, so that nothing done to DEST can harm them."""

    def __init__(self, root: Path):
        if not root.is_dir():
            raise UserError(f"LOCALPATH={root} is not a directory: name a dataset or a folder of recordings")
        self.root = root
        self.wanted = manifest_of(root)
        self.wanted.source = str(root)
        if not self.wanted.files:
            raise UserError(f"LOCALPATH={root} holds no files: name a dataset or a folder of recordings")

    def copy(self, missing: Sequence[str], staging: Path, some_came: Callable[[], None]) -> None:
        progress = Progress("copying")
        of_bytes = sum(self.wanted.files[path].bytes for path in missing)
        done = 0
        for count, path in enumerate(missing):
            progress.show(count, len(missing), done, of_bytes)
            target = staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / path, target)
            done += self.wanted.files[path].bytes
        progress.close()
        some_came()
        for path, found in hash_files(self.root, missing, follow_links=True).items():
            self.wanted.files[path] = replace(self.wanted.files[path], bytes=found.bytes, md5=found.md5)


def fetch(source: Source, dest: Path, state: Path, verify: bool) -> str:
    """Make ``dest`` hold what ``source`` wants; what was done, in words. ``state`` is ours, beside
    ``dest``."""
    wanted = source.wanted
    record = read_record(dest)
    same_source = record.source == wanted.source
    here = list_files(dest) - {MANIFEST, f"{MANIFEST}.new"}
    good = intact(dest, wanted.files, record, same_source, verify)
    linked = {
        path
        for path, target in wanted.links.items()
        if (dest / path).is_symlink() and os.readlink(dest / path) == target
    }
    strangers = here - set(record.files) - set(record.links) - set(good) - linked
    if strangers:
        raise UserError(
            f"{dest} has files that did not come from {wanted.source}, like {min(strangers)!r}:"
            " move them away or choose another folder"
        )
    staging = state / "staging"
    everything = set(wanted.files) | set(wanted.links)
    if everything == here == set(good) | linked:
        result = Manifest(good, wanted.links, wanted.source, wanted.origin_md5)
        if result != record:
            dest.mkdir(exist_ok=True)
            write_file(dest / MANIFEST, result.dumps())
        shutil.rmtree(staging, ignore_errors=True)
        return "is up to date"
    if record.files and not same_source:
        say(f"{dest} came from {record.source}: replacing it")
    damaged = here & set(wanted.files) - set(good)
    if same_source and damaged:
        say(f"{len(damaged)} files in {dest} are not the source's, like {min(damaged)!r}: downloading them")

    kept = _open_staging(staging, wanted)
    for path, entry in good.items():
        if path not in kept:
            _link(dest / path, staging / path)
            kept[path] = entry
    missing = sorted(set(wanted.files) - set(kept))
    of_bytes = sum(wanted.files[path].bytes for path in missing)
    if missing:
        free = shutil.disk_usage(staging).free
        if of_bytes > free:
            raise UserError(
                f"no space: {of_bytes / 1e6:,.0f} MB are to come, {free / 1e6:,.0f} MB are free"
                f" in {dest.parent}: free some or choose another folder"
            )
        with Hasher(staging) as hasher:
            # A file is hashed as soon as it has its name, while others are still coming.
            source.copy(missing, staging, lambda: hasher.add(missing))
            hasher.add(missing)
            flush = _flush(staging)
            kept.update(_check(missing, hasher.result(), staging, source))
        flush.wait()
    for path in list_files(staging) - set(wanted.files):
        os.unlink(staging / path)
    for path, target in wanted.links.items():
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, staging / path)
    result = Manifest(kept, wanted.links, wanted.source, wanted.origin_md5)
    write_file(staging / MANIFEST, result.dumps())
    replace_directory(staging, dest, state / "old")
    if good:
        result.files = {path: with_current_times(dest, entry, path) for path, entry in kept.items()}
        write_file(dest / MANIFEST, result.dumps())
    return (
        f"holds {len(wanted.files):,} files, {wanted.total_bytes() / 1e6:,.0f} MB;"
        f" {len(missing):,} files, {of_bytes / 1e6:,.0f} MB came now"
    )


def _open_staging(staging: Path, wanted: Manifest) -> dict[str, Entry]:
    """The staging folder with what an interrupted run left whole in it, and nothing else."""
    begun = read_record(staging)
    kept = intact(staging, wanted.files, begun, begun.source == wanted.source)
    for path in list_files(staging) - set(kept):
        os.unlink(staging / path)
    staging.mkdir(exist_ok=True)
    if kept:
        say(f"{len(kept):,} files of an interrupted run are whole and stay")
    write_file(staging / MANIFEST, wanted.dumps())
    return kept


def _check(
    missing: Sequence[str], found: dict[str, Entry], staging: Path, source: Source
) -> dict[str, Entry]:
    """``found`` with the source's versions, when it is what the source wants; TryAgain when it is not."""
    absent = [path for path in missing if path not in found]
    if absent:
        raise TryAgain(
            f"{source.wanted.source}: {len(absent)} of {len(missing)} files did not come, like {absent[0]!r}:"
            " the source has changed meanwhile; run it again"
        )
    for path in missing:
        entry = source.wanted.files[path]
        if found[path].bytes != entry.bytes or (entry.md5 and found[path].md5 != entry.md5):
            os.unlink(staging / path)
            raise TryAgain(
                f"{source.wanted.source}: {path!r} is not as listed ({found[path].bytes} bytes,"
                f" MD5 {found[path].md5}, expected {entry.bytes}, {entry.md5}): changed or damaged;"
                " run it again"
            )
        found[path] = replace(found[path], modified=entry.modified)
    return found


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _flush(folder: Path) -> subprocess.Popen:
    """Begin to flush the file system of ``folder``, which must end before files get final names."""
    return subprocess.Popen(["sync", "-f", str(folder)], stdin=subprocess.DEVNULL)


def _recover(dest: Path, state: Path) -> None:
    """Put ``dest`` back where a run was killed between the two renames of replace_directory."""
    old = state / "old"
    if old.exists() and not dest.exists():
        os.rename(old, dest)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def locked(state: Path) -> Iterator[int]:
    """Hold the lock in the folder ``state``, its file descriptor; waits for another run. Removes ``state``
    when empty."""
    lock_file = state / "lock"
    while True:
        state.mkdir(parents=True, exist_ok=True)
        try:
            lock_file.touch(mode=0o600)
            lock = Lock(lock_file, lambda: say(f"waiting for another run to end (it holds {lock_file})"))
        except FileNotFoundError:
            continue
        # The run before us may have removed the folder while we waited.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(lock.descriptor).st_ino == lock_file.stat().st_ino:
                break
        lock.release()
    try:
        yield lock.descriptor
    finally:
        if os.listdir(state) == ["lock"]:
            lock_file.unlink()
            state.rmdir()
        lock.release()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="fetch.sh", description=__doc__)
    parser.add_argument(
        "--manifest", action="store_true", help="refuse what publish.sh has not written to its end"
    )
    parser.add_argument("--if-any", action="store_true", help="end well where there is nothing, with no DEST")
    parser.add_argument("--verify", action="store_true", help="hash every local file, whatever its times say")
    parser.add_argument(
        "--unless-converted",
        type=Path,
        metavar="DATASET",
        help="leave out recordings that are in DATASET already and have not changed",
    )
    parser.add_argument("source", nargs="?", metavar="SOURCE")
    parser.add_argument("dest", metavar="DEST")
    args = parser.parse_args()

    environ = os.environ
    local = environ.get("LOCALPATH", "")
    credentials = find_credentials(environ)
    if credentials:
        location = parse_location(args.source or source_of(environ), environ)
        unused = f"; LOCALPATH={local} is not used" if local else ""
        say(f"source: {location} ({credentials.why}{unused})")
    elif local:
        say(f"source: LOCALPATH={local} (no Azure credentials are configured)")
    else:
        raise UserError(
            "no source: set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN"
            " or AZCOPY_AUTO_LOGIN_TYPE (secrets.env), or LOCALPATH=DIR"
        )

    dest = Path(os.path.realpath(args.dest))
    if dest.exists() and not dest.is_dir():
        raise UserError(f"{dest} is not a directory: name a folder that is new, empty or made by fetch.sh")
    if os.path.ismount(dest):
        raise UserError(f"{dest} is a mount point and cannot be replaced whole: name a folder in it")
    root = Path(os.path.realpath(local))
    if not credentials and (root in (dest, *dest.parents) or dest in root.parents):
        raise UserError(f"LOCALPATH={local} and {dest} lie in one another: name a folder elsewhere")

    state = dest.parent / f".{dest.name}.fetch"
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(locked(state))
        _recover(dest, state)
        source: Source
        if credentials:
            azcopy = stack.enter_context(Azcopy(location, credentials, keep_open=[lock]))
            try:
                source = BlobSource(azcopy, read_record(dest), args.manifest)
            except NothingThere as nothing:
                if not args.if_any:
                    raise
                say(f"nothing to download yet: {nothing}")
                return
            if args.unless_converted:
                count = source.leave_out(converted_recordings(args.unless_converted))
                say(f"{count} recordings are in {args.unless_converted} already and are left out")
        else:
            source = LocalSource(root)
        say(f"{dest} {fetch(source, dest, state, args.verify)}")
    print(dest)


def converted_recordings(dataset: Path) -> list[Mapping[str, Any]]:
    """The files of every recording that is an episode of ``dataset``, as its conversion.json has them."""
    path = dataset / "conversion.json"
    try:
        recordings = json.loads(path.read_text())["recordings"]
        return [entry["files"] for entry in recordings if entry["status"] == "kept"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not what convert.sh writes: convert to another folder") from None


if __name__ == "__main__":
    run_transfer(main)
