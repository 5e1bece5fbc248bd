"""``pip install ./python`` on a robot: PolicyRunner runs with the package's hard dependencies alone."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from tiny_checkpoint import IMAGE_SIZE, write_tiny_checkpoint

from ur10e_act import PolicyRunner

STEP = """
import json, sys
import numpy as np
from ur10e_act import PolicyRunner

runner = PolicyRunner.from_pretrained(sys.argv[1], "cpu")
with np.load(sys.argv[2]) as observation:
    print(json.dumps(runner.step(dict(observation)).tolist()))
for name in ("matplotlib", "rosbags", "mcap", "tensorboard", "pytest", "train"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported: the environment holds more than what the package requires")
"""


def required(requirements: list[str], excluded: set[str], found: set[str]) -> set[str]:
    """The names of the distributions that ``requirements`` need, less ``excluded``, added to ``found``."""
    for requirement in map(Requirement, requirements):
        name = requirement.name.lower().replace("_", "-")
        if name in excluded or name in found:
            continue
        found.add(name)
        extras = requirement.extras or {""}
        needed = [
            str(inner)
            for inner in map(Requirement, distribution(name).requires or [])
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras)
        ]
        required(needed, excluded, found)
    return found


def link(name: str, site_packages: Path) -> None:
    """Make a distribution of this environment visible in another one."""
    for top in {file.parts[0] for file in distribution(name).files or []} - {"..", "__pycache__"}:
        if not (site_packages / top).exists():
            (site_packages / top).symlink_to(distribution(name).locate_file(top))


@pytest.mark.slow
def test_a_robot_needs_the_hard_dependencies_alone(tmp_path: Path, sample_root: Path) -> None:
    # A copy, so that building leaves nothing among the sources.
    source = shutil.copytree(ROOT / "python", tmp_path / "python", ignore=shutil.ignore_patterns(".*_cache"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    robot_python = tmp_path / "venv" / "bin" / "python"
    # Without what it requires, which is several GB: that comes, link by link, from the project's environment.
    subprocess.run(
        [robot_python, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True, env=environment
    )
    (site_packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (metadata,) = site_packages.glob("ur10e_act-*.dist-info/METADATA")
    direct = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.read_text(encoding="utf-8").splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    lines = (ROOT / "python" / "requirements-exclude.txt").read_text(encoding="utf-8").splitlines()
    excluded = {line for line in lines if not line.startswith("#")}
    for name in required(direct, excluded, set()):
        link(name, site_packages)

    trained = write_tiny_checkpoint(tmp_path / "train", sample_root)
    generator = np.random.default_rng(0)
    observation = {"observation.state": generator.random(7, dtype=np.float32)}
    for camera in ("top", "wrist"):
        observation[f"observation.images.{camera}"] = generator.integers(
            0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8
        )
    np.savez(tmp_path / "observation.npz", **observation)
    here = PolicyRunner.from_pretrained(trained, "cpu").step(observation)
    there = subprocess.run(
        [robot_python, "-c", STEP, trained, tmp_path / "observation.npz"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path / "venv",
        env=environment,
    )
    assert json.loads(there.stdout) == here.tolist()
