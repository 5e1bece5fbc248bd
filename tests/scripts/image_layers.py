"""Look into an image's own layers: python3 image_layers.py OCI_FOLDER NAME BASE_DIGESTS TEXT [...]

OCI_FOLDER is an OCI layout with uncompressed layers, BASE_DIGESTS a file with the base's layers, which are
left out. Prints a line "layer DIGEST BYTES FILES" for each of the rest, and "path NAME" for each file in them.
Exit status 1, and a line for each on stderr, where one of the TEXTs stands in a file, a name or the image's
configuration.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path


def main(folder: Path, name: str, base: set[str], texts: list[bytes]) -> int:
    def blob(digest: str) -> Path:
        return folder / "blobs" / digest.replace(":", "/")

    def search(content: bytes, where: str) -> None:
        for text in texts:
            if text in content:
                found.append(f"{text.decode()} is in {where}")

    found: list[str] = []
    index = json.loads((folder / "index.json").read_text())
    [entry] = [
        manifest
        for manifest in index["manifests"]
        if manifest["annotations"]["org.opencontainers.image.ref.name"] == name
    ]
    manifest = json.loads(blob(entry["digest"]).read_text())
    search(blob(manifest["config"]["digest"]).read_bytes(), "the configuration")
    own = [layer["digest"] for layer in manifest["layers"] if layer["digest"] not in base]
    for digest in own:
        files = 0
        with tarfile.open(blob(digest)) as archive:
            for member in archive:
                search(member.name.encode(), f"{digest}: a name")
                if member.isfile():
                    files += 1
                    print("path", member.name)
                    search(archive.extractfile(member).read(), f"{digest}: {member.name}")
        print("layer", digest, blob(digest).stat().st_size, files)
    print("\n".join(found), file=sys.stderr)
    return 1 if found or not own else 0


if __name__ == "__main__":
    folder, name, base, *texts = sys.argv[1:]
    digests = set(Path(base).read_text().split())
    raise SystemExit(main(Path(folder), name, digests, [text.encode() for text in texts]))
