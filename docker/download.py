"""Download one file into an image, or nothing: python3 download.py URL SHA256 FILE.

With Python's own library, since every base has it. Proxies and certificates are those of the environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path


def download(url: str, sha256: str, target: Path) -> None:
    """Write what ``url`` holds to ``target``. SystemExit when it cannot be downloaded or is another file."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise SystemExit(f"download.py: '{sha256}' is not a sha256: give that of {url}")
    digest = hashlib.sha256()
    part = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=60) as source, open(part, "wb") as file:
            while block := source.read(1 << 20):
                digest.update(block)
                file.write(block)
    except (OSError, ValueError, urllib.error.URLError) as error:
        part.unlink(missing_ok=True)
        raise SystemExit(f"download.py: cannot download {url} ({error}): give the URL of a mirror") from None
    found = digest.hexdigest()
    if found != sha256:
        part.unlink()
        raise SystemExit(f"download.py: {url} has sha256 {found}, not {sha256}: it is another file")
    part.chmod(0o644)
    os.replace(part, target)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit("usage: download.py URL SHA256 FILE")
    download(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
