"""The DataLoader: batches through shared memory or pipes, and what is said of dead workers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.utils.data import Dataset

from ur10e_act.errors import UserError
from ur10e_act.policy.act import to_device
from ur10e_act.training import loader
from ur10e_act.training.loader import fits_shared_memory, make_loader, worker_errors


class Samples(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == 5 and os.environ.get("BROKEN_DATA"):
            raise UserError("video.mp4: frame 7 is broken; copy the file again")
        return {"image": torch.full((3, 32, 32), index, dtype=torch.uint8), "index": torch.tensor(index)}


def batches(num_workers: int) -> list[dict[str, torch.Tensor]]:
    return [to_device(batch, "cpu") for batch in make_loader(Samples(), 2, num_workers, pin_memory=False)]


def test_pipes_bring_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = batches(0)
    monkeypatch.setattr(loader, "fits_shared_memory", lambda *_: False)
    through_pipes = batches(2)
    raw = next(iter(make_loader(Samples(), 2, 1, pin_memory=False)))
    assert isinstance(raw["image"], np.ndarray)
    assert len(through_pipes) == len(expected)
    for theirs, ours in zip(expected, through_pipes, strict=True):
        assert all(
            torch.equal(theirs[key], ours[key]) and theirs[key].dtype == ours[key].dtype for key in theirs
        )


def test_what_fits_counts_workers_and_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    sample_bytes = 3 * 32 * 32 + 8
    room = 2 * 2 * 3 * 4 * sample_bytes  # twice: 2 workers, 3 batches of 4 each

    class Status:
        f_bavail, f_frsize = room, 1

    monkeypatch.setattr(loader.os, "statvfs", lambda _: Status)
    assert fits_shared_memory(Samples(), 4, 2)
    assert not fits_shared_memory(Samples(), 5, 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert not fits_shared_memory(Samples(), 4, 2)


def run_script(tmp_path: Path, body: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    """Run ``body`` with python/ to import from, in a process of its own."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nimport torch\nfrom ur10e_act.training.loader import make_loader, worker_errors\n"
        + textwrap.dedent(body)
    )
    return subprocess.run(
        [*prefix, sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT / "python")},
    )


def test_a_killed_worker_may_go_well_again(tmp_path: Path) -> None:
    # torch tells it by SIGCHLD, at whatever the main process is doing.
    done = run_script(
        tmp_path,
        """
        from ur10e_act.errors import run_cli

        class Killed(torch.utils.data.Dataset):
            def __len__(self):
                return 4
            def __getitem__(self, index):
                if index == 3:
                    os.kill(os.getpid(), 9)
                return {"index": torch.tensor(index)}

        def main():
            with worker_errors():
                for batch in make_loader(Killed(), 1, 1, pin_memory=False):
                    pass

        run_cli(main)
        """,
    )
    assert done.returncode == 75, done.stderr
    # Which of torch's two sentences it is depends on who notices first.
    sentence = (
        r"error: DataLoader worker .*(killed by signal: Killed|exited unexpectedly)\. Out of memory\? Lower"
    )
    assert re.match(sentence, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


def test_an_error_of_a_worker_is_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN_DATA", "1")
    with pytest.raises(UserError) as caught, worker_errors():
        batches(1)
    assert str(caught.value) == "video.mp4: frame 7 is broken; copy the file again"


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root for a small /dev/shm of its own"
)
def test_workers_live_with_the_shared_memory_of_a_pod(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$0" "$1"'
    done = run_script(
        tmp_path,
        """
        from ur10e_act.policy.act import to_device

        class Large(torch.utils.data.Dataset):
            def __len__(self):
                return 24
            def __getitem__(self, index):
                return {"image": torch.full((3, 480, 640), index, dtype=torch.uint8)}

        loader = make_loader(Large(), 8, 2, pin_memory=False)
        print(sum(int(to_device(batch, "cpu")["image"].sum()) for batch in loader))
        """,
        *("unshare", "--mount", "sh", "-c", mount),
    )
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(range(24)) * 3 * 480 * 640
