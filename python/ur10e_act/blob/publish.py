"""Upload a folder (a checkpoint, metrics) to Azure Blob so that a reader can tell a whole upload from a half
one.

Only files that differ are sent, with MD5. The listing is then compared with the folder, and
``.manifest.json`` is written last; ``fetch.sh`` checks it. Links that stay in the folder are recorded in it,
others are followed. Blobs that the folder has no file for stay where they are, and readers pass over them;
``--prune`` removes those of them that the manifest before this one had.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ur10e_act.blob.azcopy import Azcopy, Blob, Progress
from ur10e_act.blob.credentials import find_credentials
from ur10e_act.blob.location import parse_location
from ur10e_act.blob.manifest import (
    MANIFEST,
    Entry,
    Manifest,
    hash_files,
    load_manifest,
    local_names,
    manifest_of,
)
from ur10e_act.blob.run_transfer import run_transfer
from ur10e_act.errors import TryAgain, UserError


def publish(root: Path, azcopy: Azcopy, prune: bool) -> str:
    """Make the location hold the files of ``root`` and their manifest; what was done, in words.

    ``prune``: remove what only the earlier manifest names, once the new one is there.
    """
    where = str(azcopy.location)
    tree = manifest_of(root)
    if not tree.files:
        raise UserError(f"{root} holds no files: name a folder with a checkpoint or metrics in it")
    local_names([*tree.files, *tree.links], str(root))
    hashed = hash_files(root, tree.files, follow_links=True)
    if len(hashed) < len(tree.files):
        raise TryAgain(f"{root} changed while it was read: run it again")
    tree.files = {path: Entry(entry.bytes, entry.md5) for path, entry in hashed.items()}
    content = tree.dumps()
    manifest_md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()

    listing = {blob.name: blob for blob in azcopy.list()}
    earlier = published_manifest(azcopy) if prune and MANIFEST in listing else Manifest({})
    different = _different(tree, listing)
    if not different and MANIFEST in listing and listing[MANIFEST].md5 == manifest_md5:
        return f"{where} is up to date"
    if different:
        _send(tree, different, root, azcopy)
        listing = {blob.name: blob for blob in azcopy.list()}
        bad = _different(tree, listing)
        if bad:
            raise TryAgain(
                f"{where}: {len(bad)} files are not as in {root}, like {bad[0]!r}: it changed; run it again"
            )

    path = azcopy.work / "manifest.json"
    path.write_bytes(content)
    status = azcopy.copy(
        str(path), azcopy.location.url(MANIFEST), "--from-to=LocalBlob", "--put-md5", "--overwrite=true"
    )
    written = {blob.name: blob for blob in azcopy.list()}.get(MANIFEST)
    if status != 0 or written is None or written.md5 != manifest_md5:
        raise azcopy.failure(f"cannot write {where}{MANIFEST}")
    stale = sorted(path for path in earlier.files if path in listing and path not in tree.files)
    if stale:
        names = azcopy.work / "stale"
        names.write_text("".join(path + "\n" for path in stale))
        if azcopy.remove(names) != 0:
            print(azcopy.failure(f"cannot remove {len(stale)} old files from {where}"), file=sys.stderr)
    others = len(listing) - len(tree.files) - (MANIFEST in listing) - len(stale)
    more = f"; {others:,} other blobs stay there" if others else ""
    sent = sum(tree.files[path].bytes for path in different)
    return (
        f"{where} holds {len(tree.files):,} files, {tree.total_bytes() / 1e6:,.0f} MB;"
        f" {len(different):,} files, {sent / 1e6:,.0f} MB sent now{more}"
    )


def published_manifest(azcopy: Azcopy) -> Manifest:
    """What the location's manifest says. UserError or TryAgain where it cannot be read."""
    where = f"{azcopy.location}{MANIFEST}"
    path = azcopy.work / "published.json"
    status = azcopy.copy(azcopy.location.url(MANIFEST), str(path), "--from-to=BlobLocal")
    if status != 0 or not path.is_file():
        raise azcopy.failure(f"cannot read {where}")
    return load_manifest(path.read_bytes(), where)


def _different(tree: Manifest, listing: Mapping[str, Blob]) -> list[str]:
    return [
        path
        for path, entry in sorted(tree.files.items())
        if path not in listing or (listing[path].bytes, listing[path].md5) != (entry.bytes, entry.md5)
    ]


def _send(tree: Manifest, paths: list[str], root: Path, azcopy: Azcopy) -> None:
    names = azcopy.work / "names"
    names.write_text("".join(path + "\n" for path in paths))
    of_bytes = sum(tree.files[path].bytes for path in paths)
    progress = Progress("publishing")

    def show(content: dict) -> None:
        done = int(content["TransfersCompleted"])
        progress.show(done, len(paths), int(content["TotalBytesTransferred"]), of_bytes)

    options = [
        "--recursive",
        "--as-subdir=false",
        "--from-to=LocalBlob",
        "--follow-symlinks",
        "--put-md5",
        "--overwrite=true",
    ]
    try:
        status = azcopy.copy(
            azcopy.link("source", root),
            azcopy.location.url(),
            *options,
            "--list-of-files",
            str(names),
            progress=show,
        )
    finally:
        progress.close()
    if status != 0:
        raise azcopy.failure(f"cannot upload {root} to {azcopy.location}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="publish.sh", description=__doc__)
    parser.add_argument("--prune", action="store_true", help="remove what only the earlier manifest names")
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("dest", metavar="DEST")
    args = parser.parse_args()

    environ = os.environ
    root = Path(os.path.realpath(args.folder))
    if not root.is_dir():
        raise UserError(f"{args.folder} is not a directory: name a folder with a checkpoint or metrics in it")
    credentials = find_credentials(environ)
    if not credentials:
        raise UserError(
            "no credentials: set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY,"
            " AZURE_STORAGE_SAS_TOKEN or AZCOPY_AUTO_LOGIN_TYPE (secrets.env)"
        )
    location = parse_location(args.dest, environ)
    print(f"destination: {location} ({credentials.why})", file=sys.stderr, flush=True)
    with Azcopy(location, credentials) as azcopy:
        print(publish(root, azcopy, args.prune), file=sys.stderr, flush=True)
    print(location)


if __name__ == "__main__":
    run_transfer(main)
