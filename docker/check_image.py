"""Prove that an image still has its base's torch, and what ACT needs beside it.

python3 check_image.py record FILE    in the base, before anything is installed
python3 check_image.py verify FILE    afterwards, by the interpreter that the image uses; any number of times

Exit status 1 and a line for each thing that is wrong.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

LEROBOT = "0.3.2"
PYARROW = 14


def fingerprint(folder: Path) -> str:
    """sha256 of the names and sizes of a package's files: another build of the same version has others."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def describe() -> dict[str, dict[str, Any]]:
    """Version, place and build of torch and torchvision as this interpreter imports them."""
    found = {}
    for name in ("torch", "torchvision"):
        module = importlib.import_module(name)
        folder = Path(module.__file__).parent
        found[name] = {
            "version": module.__version__,
            "package": distribution(name).version,
            "cuda": getattr(module.version, "cuda", None),  # not every build of torchvision has it
            "folder": str(folder),
            "files": fingerprint(folder),
        }
    return found


def changes(recorded: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]) -> list[str]:
    """What is not as in the base, a line each."""
    return [
        f"{name}: {key} was {old} in the base and is {found[name][key]}"
        for name, entry in recorded.items()
        for key, old in entry.items()
        if found[name][key] != old
    ]


def conflicts(prefix: str) -> list[str]:
    """Installed packages that another one cannot use, where one of the two lies in ``prefix``.

    What is missing is not reported: lerobot asks for much that ACT never imports.
    """
    # pip's copy, since a base need not have packaging.
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

    def ours(package: Distribution) -> bool:
        return str(package.locate_file("")).startswith(prefix)

    wrong = []
    for package in distributions():
        name = package.metadata["Name"]
        if distribution(name).version != package.version:
            continue  # one of the base that ours hides
        for text in package.requires or ():
            try:
                requirement = Requirement(text)
                if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                    continue
                other = distribution(requirement.name)
            except (InvalidRequirement, PackageNotFoundError):
                continue
            fits = requirement.specifier.contains(other.version, prereleases=True)
            if not fits and (ours(package) or ours(other)):
                wrong.append(f"{name} {package.version} needs {text}, and there is {other.version}")
    return wrong


def needs() -> list[str]:
    """What ACT needs and this image lacks. Each is imported and, where that proves little, run."""
    wrong = []
    try:
        import av  # noqa: F401
        import lerobot  # noqa: F401
        import pyarrow
        import torch
        import torchvision
        from lerobot.policies.act.modeling_act import ACTPolicy  # noqa: F401

        # torchvision's operators are missing where its build does not fit torch's.
        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
        if distribution("lerobot").version != LEROBOT:
            wrong.append(f"lerobot is {distribution('lerobot').version}, not {LEROBOT}")
        if int(pyarrow.__version__.partition(".")[0]) < PYARROW:
            wrong.append(f"pyarrow is {pyarrow.__version__}, older than {PYARROW}")
    except Exception as error:  # whatever it is, it is the answer
        wrong.append(f"{type(error).__name__}: {error}")
    return wrong


def main(command: str, path: Path) -> int:
    if command == "record":
        path.write_text(json.dumps(describe(), indent=1) + "\n", encoding="utf-8")
        return 0
    recorded, found = json.loads(path.read_text(encoding="utf-8")), describe()
    wrong = changes(recorded, found) + conflicts(sys.prefix) + needs()
    for line in wrong:
        print(f"check_image.py: {line}", file=sys.stderr)
    if not wrong:
        print(", ".join(f"{name} {entry['version']} (CUDA {entry['cuda']})" for name, entry in found.items()))
        print("as in the base, and lerobot, av and pyarrow are there")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("record", "verify"):
        raise SystemExit("usage: check_image.py record|verify FILE")
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
