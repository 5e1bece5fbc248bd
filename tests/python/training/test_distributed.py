"""distributed.py and launch.py, in real torchrun processes on gloo."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT

PROLOGUE = """
import os, sys
sys.path.insert(0, {python!r})
import torch
from ur10e_act.training import distributed
from ur10e_act.errors import UserError, run_cli
"""


def launch(tmp_path: Path, body: str, ranks: int = 2, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``body``, a ``def main():``, in ``ranks`` processes."""
    script = tmp_path / "worker.py"
    script.write_text(
        PROLOGUE.format(python=str(ROOT / "python")) + textwrap.dedent(body) + "\nrun_cli(main)\n"
    )
    command = [
        sys.executable,
        "-m",
        "ur10e_act.training.torchrun_launcher",
        "--standalone",
        f"--nproc-per-node={ranks}",
    ]
    return subprocess.run(
        [*command, str(script)],
        capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip


def test_ranks_see_each_other_and_sums_are_over_all(tmp_path: Path) -> None:
    done = launch(
        tmp_path,
        """
        def main():
            with distributed.process_group("cpu") as world:
                ranks = distributed.gather(world, world.rank)
                total = distributed.sum_over_ranks(world, torch.tensor([world.rank + 1.0]))
                distributed.require_same(world, "dataset", "same")
                if world.is_main:
                    print(ranks, total.item(), torch.distributed.get_backend())
        """,
    )
    assert done.stdout.strip() == "[0, 1] 3.0 gloo"
    assert done.returncode == 0


def test_the_mistake_of_one_rank_ends_all_with_one_line(tmp_path: Path) -> None:
    done = launch(
        tmp_path,
        """
        def refuse(world):
            if world.rank == 1:
                raise UserError("d: no such dataset")

        def main():
            with distributed.process_group("cpu") as world:
                distributed.run_on_all_ranks(world, lambda: refuse(world))
                print("went on")
        """,
    )
    assert done.returncode == 2
    assert done.stderr.count("error: rank 1: d: no such dataset\n") == 1
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_the_mistake_of_all_ranks_is_told_once(tmp_path: Path) -> None:
    done = launch(
        tmp_path,
        """
        def refuse():
            raise UserError("d: no such dataset")

        def main():
            with distributed.process_group("cpu") as world:
                distributed.run_on_all_ranks(world, refuse)
        """,
    )
    assert done.returncode == 2
    assert done.stderr.count("no such dataset") == 1
    assert "error: d: no such dataset" in done.stderr


def test_a_rank_with_another_dataset_is_named(tmp_path: Path) -> None:
    done = launch(
        tmp_path,
        """
        def main():
            with distributed.process_group("cpu") as world:
                distributed.require_same(world, "dataset", "bbb" if world.rank == 1 else "aaa")
        """,
        ranks=3,
    )
    assert done.returncode == 2
    assert "the dataset differs between ranks: rank 0 has aaa, rank 1 on " in done.stderr
    assert "rank 2" not in done.stderr.split("error:")[1].splitlines()[0]


def test_the_launcher_ends_with_the_status_of_the_failed_rank(tmp_path: Path) -> None:
    done = launch(tmp_path, "def main():\n    sys.exit(75 if os.environ['RANK'] == '1' else 0)\n")
    assert done.returncode == 75
    assert "rank 1 ended with status 75" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_rank_counts_as_in_a_shell(tmp_path: Path) -> None:
    done = launch(tmp_path, "def main():\n    os.kill(os.getpid(), 9)\n", ranks=1)
    assert done.returncode == 137


def test_who_loses_another_rank_may_try_again(tmp_path: Path) -> None:
    done = launch(
        tmp_path,
        """
        def main():
            with distributed.process_group("cpu") as world:
                distributed.gather(world, 1)
                if world.rank == 1:
                    os._exit(0)
                distributed.gather(world, 2)
        """,
    )
    assert done.returncode == 75
    assert "error: rank 0 has lost another rank" in done.stderr
    assert "Traceback" not in done.stderr


def test_local_rank_0_goes_first(tmp_path: Path) -> None:
    done = launch(
        tmp_path,
        f"""
        from pathlib import Path

        def main():
            with distributed.process_group("cpu") as world, distributed.local_rank_0_first(world):
                made = Path({str(tmp_path)!r}, "download")
                assert made.exists() == (world.rank != 0)
                made.touch()
        """,
        ranks=3,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "start several processes with torchrun"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "ranks go from 0 to 1"),
    ],
)
def test_half_an_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    from ur10e_act.errors import UserError
    from ur10e_act.training import distributed

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message), distributed.process_group("cpu"):
        pass


def test_no_environment_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from ur10e_act.training import distributed

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with distributed.process_group("cpu") as world:
        assert (world.rank, world.world_size, world.is_main) == (0, 1, True)
        assert distributed.gather(world, "x") == ["x"]
