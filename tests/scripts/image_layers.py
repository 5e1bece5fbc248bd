"""Look into an image's own layers: python3 image_layers.py ARCHIVE BASE_LAYERS TEXT [...]

ARCHIVE is what `push docker-archive:` writes, BASE_LAYERS a file with the digests of the base's layers, which
are left out. Prints "layer BYTES FILES" for each of the rest, lowest first, and "path NAME" for its files.
Exit status 1, and a line for each on stderr, where one of the TEXTs stands in a file, a name or the settings.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path


def main(archive: Path, base: set[str], texts: list[bytes]) -> int:
    found: list[str] = []

    def search(content: bytes, where: str) -> None:
        found.extend(f"{text.decode()} is in {where}" for text in texts if text in content)

    own = 0
    with tarfile.open(archive) as image:
        [manifest] = json.load(image.extractfile("manifest.json"))
        config = image.extractfile(manifest["Config"]).read()
        search(config, "the configuration")
        for name, digest in zip(manifest["Layers"], json.loads(config)["rootfs"]["diff_ids"], strict=True):
            if digest in base:
                continue
            own += 1
            files = 0
            with tarfile.open(fileobj=image.extractfile(name)) as layer:
                for member in layer:
                    search(member.name.encode(), f"a name in layer {own}")
                    if member.isfile():
                        files += 1
                        print("path", member.name)
                        search(layer.extractfile(member).read(), f"layer {own}: {member.name}")
            print("layer", image.getmember(name).size, files)
    print("\n".join(found), file=sys.stderr)
    return 1 if found or not own else 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit("usage: image_layers.py ARCHIVE BASE_LAYERS TEXT [...]")
    layers = set(Path(sys.argv[2]).read_text().split())
    raise SystemExit(main(Path(sys.argv[1]), layers, [text.encode() for text in sys.argv[3:]]))
