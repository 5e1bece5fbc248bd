"""What pip installs on top of a base image: python3 choose_packages.py LOCK DIR.

Writes DIR/requirements.txt, the lock with its hashes less what the base keeps, and DIR/constraints.txt, the
versions that nothing installed later may change. The base keeps its torch and torchvision (which are in no
registry), what they are compiled against or alone use, and whatever it pins by itself through PIP_CONSTRAINT.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NEEDED = ("torch", "torchvision")
# What torch is compiled against or alone uses, where the base has it.
KEPT = ("numpy", "setuptools", "sympy", "mpmath", "networkx", "jinja2", "markupsafe")
BROUGHT = re.compile(r"triton|(nvidia|cuda)-.*")  # by the base in its own way, maybe not as Python packages


def parse_lock(text: str) -> dict[str, list[str]]:
    """The lock's entries by package: a package may have several, for different Python versions."""
    entries: dict[str, list[str]] = {}
    for entry in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE):
        if name := re.match(r"([a-z0-9._-]+)==", entry):
            entries.setdefault(name[1], []).append(entry)
    return entries


def installed(name: str) -> str | None:
    """The version of what the base has under this name."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pinned_by_base() -> set[str]:
    """Names in the files of PIP_CONSTRAINT, written as in the lock."""
    names = set()
    for path in os.environ.get("PIP_CONSTRAINT", "").split():
        for line in Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else ():
            if found := re.match(r"\s*([A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*(===?|@)", line):
                names.add(re.sub(r"[-_.]+", "-", found[1]).lower())
    return names


def choose(lock: dict[str, list[str]]) -> tuple[list[str], dict[str, str]]:
    """The lock's entries to install, and the versions that the base keeps. SystemExit without torch."""
    pinned = pinned_by_base()
    wanted, kept = [], {}
    for name, entries in lock.items():
        have = installed(name)
        if name in NEEDED and have is None:
            raise SystemExit(f"choose_packages.py: the base image has no {name}: choose another BASE_IMAGE")
        if have is not None and (name in NEEDED + KEPT or BROUGHT.fullmatch(name) or name in pinned):
            kept[name] = have
        elif not BROUGHT.fullmatch(name):
            wanted += entries
    return wanted, kept


def main(lock: Path, target: Path) -> None:
    wanted, kept = choose(parse_lock(lock.read_text(encoding="utf-8")))
    pins = [entry.splitlines()[0].removesuffix("\\").rstrip() for entry in wanted]
    (target / "requirements.txt").write_text("".join(wanted), encoding="utf-8")
    constraints = [f"{name}=={have}" for name, have in kept.items()] + pins
    (target / "constraints.txt").write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    print("kept from the base:", *(f"{name} {have}" for name, have in kept.items()))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: choose_packages.py LOCK DIR")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
