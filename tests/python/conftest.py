"""Shared fixtures: the modules under test on the path, and the sample dataset."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.register_assert_rewrite("conversions")
# Models this small lose more to threads than they gain, most of all where the cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(ROOT / "python"))
# As scripts/common.sh does it, for the commands that tests start.
os.environ["PYTHONPATH"] = str(ROOT / "python")


@pytest.fixture(scope="session")
def sample_root() -> Path:
    """The dataset that lerobot 0.4.4 wrote: 6 episodes, 366 frames, 2 cameras, AV1, 30 Hz."""
    return ROOT / "tests" / "fixtures" / "ur10e_v3_by_lerobot_0_4_4"


@pytest.fixture(scope="session", params=["0.4.4", "0.6.1"])
def later_lerobot(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A lerobot version, and the Python of an environment of its own that has it."""
    variable = f"LEROBOT_{request.param.replace('.', '')}_PYTHON"
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no Python with lerobot=={request.param} (a venv of its own)")
    return request.param, python
