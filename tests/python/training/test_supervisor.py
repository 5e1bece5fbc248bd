"""supervisor.py, with real processes: small shell scripts in place of the training and of publish.sh."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

# A training that saves the checkpoints that it is told to, and what publish.sh would have been given.
SAVE = """
save() {
  mkdir -p "$OUTPUT/checkpoints/$1/pretrained_model"
  echo "$1" >"$OUTPUT/checkpoints/$1/pretrained_model/model"
  ln -sfn "$1" "$OUTPUT/checkpoints/last"
  echo "$1" >"$OUTPUT/metrics.jsonl"
}
"""
PUBLISH = """#!/bin/bash
[[ $1 == --prune && $3 == c/p ]] || exit 2
echo "$(ls -A "$2" | tr '\\n' ' ')$(stat -c %h "$2"/last/pretrained_model/model)" >>"$PUBLISHED"
"""


class Run:
    """A supervisor and what it has left."""

    def __init__(self, folder: Path) -> None:
        self.output, self.result = folder / "output", folder / "result"
        self.published, self.script = folder / "published", folder / "publish.sh"
        self.output.mkdir()

    def start(self, training: str, publish: str = "") -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "ur10e_act.training.supervisor", "--output", self.output]
        command += ["--result", self.result]
        if publish:
            self.script.write_text(publish)
            self.script.chmod(0o755)
            command += ["--publish", self.script, "c/p"]
        variables = {"OUTPUT": self.output, "PUBLISHED": self.published, "PYTHONPATH": ROOT / "python"}
        return subprocess.Popen(
            [*map(str, command), "bash", "-ec", SAVE + training],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {name: str(value) for name, value in variables.items()},
            start_new_session=True,
        )

    def whole(self, training: str, publish: str = "") -> tuple[int, str]:
        """Status and stderr."""
        process = self.start(training, publish)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def lines(self) -> list[str]:
        return self.published.read_text().splitlines() if self.published.exists() else []


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def gone(pid: int) -> bool:
    """Whether the process ends within 10 s; a zombie that nobody waits for has ended, too."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_the_status_of_the_training_is_kept_and_its_stdin_is_empty(run: Run) -> None:
    assert run.whole("! read -r; exit 75") == (75, "")
    assert run.whole("kill -9 $$") == (137, "")
    assert not run.result.exists()


def test_the_result_is_the_best_checkpoint_else_the_last_without_links(run: Run) -> None:
    assert run.whole("save 1; save 2") == (0, "")
    assert (run.result / "pretrained_model" / "model").read_text() == "2\n"
    assert run.whole("ln -sfn 1 $OUTPUT/checkpoints/best; ln -s ../x $OUTPUT/checkpoints/1/pretrained_model/y"
                     "; echo x >$OUTPUT/checkpoints/1/x") == (0, "")  # fmt: skip
    assert (run.result / "pretrained_model" / "model").read_text() == "1\n"
    assert not (run.result / "pretrained_model" / "y").is_symlink()
    assert (run.result / "metrics.jsonl").read_text() == "2\n"
    assert sorted(path.name for path in run.result.iterdir()) == ["metrics.jsonl", "pretrained_model"]


def test_a_result_that_cannot_be_written_is_one_line_and_checkpoints_are_still_published(run: Run) -> None:
    run.result.write_text("a file")
    status, errors = run.whole("save 1", PUBLISH)
    assert status == 2
    assert errors.startswith(f"error: {run.result}: cannot be written to")
    assert len(errors.splitlines()) == 1
    assert run.lines() == ["1 last 2"]


def test_a_training_without_a_checkpoint_publishes_nothing(run: Run) -> None:
    assert run.whole("exit 2", PUBLISH) == (2, "")
    assert run.lines() == []


def test_the_last_checkpoint_is_published_as_soon_as_training_ends(run: Run) -> None:
    start = time.monotonic()
    assert run.whole("save 1; mkdir $OUTPUT/checkpoints/.writing-2", PUBLISH) == (0, "")
    assert time.monotonic() - start < 4
    # Hard links: the model has two names while it is published.
    assert run.lines() == ["1 last 2"]
    assert sorted(path.name for path in run.output.iterdir()) == ["checkpoints", "metrics.jsonl"]


def test_checkpoints_are_published_while_training_runs_each_once(run: Run) -> None:
    # The training waits for the first to be published, and removes it then, as rotation does.
    wait = "until [[ -s $PUBLISHED ]]; do sleep 0.1; done; rm -r $OUTPUT/checkpoints/1"
    assert run.whole(f"save 1; {wait}; save 2; sleep 6; ", PUBLISH) == (0, "")
    assert run.lines() == ["1 last 2", "2 last 2"]


def test_only_the_last_upload_decides_and_a_failed_training_before_it(run: Run) -> None:
    fails_once = PUBLISH + "[[ $(wc -l <$PUBLISHED) -gt 1 ]] || { echo away >&2; exit 75; }"
    wait = "until [[ -s $PUBLISHED ]]; do sleep 0.1; done"
    assert run.whole(f"save 1; {wait}", fails_once) == (0, "away\n")
    # What was sent with the second attempt is not sent again by another run's first.
    assert run.whole("save 1", PUBLISH + "exit 75") == (75, "")
    assert run.whole("exit 3", PUBLISH + "exit 75") == (3, "")


def test_a_signal_is_passed_on_and_what_is_saved_is_published(run: Run) -> None:
    process = run.start("save 1; echo ready; exec sleep 100", PUBLISH)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=4)
    assert (process.returncode, errors) == (143, "")
    assert run.lines() == ["1 last 2"]


def test_a_signal_after_training_ends_the_upload(run: Run) -> None:
    process = run.start("save 1", "#!/bin/bash\necho uploading >&2; exec sleep 100")
    assert process.stderr is not None
    assert process.stderr.readline() == "uploading\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=4)
    assert process.returncode == 143


def test_ctrl_c_reaches_the_training_as_one_sigterm(run: Run) -> None:
    process = run.start(
        "trap 'echo term; kill $!; exit 143' TERM; trap 'echo int' INT; sleep 100 & echo ready; wait"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert (process.returncode, output) == (143, "term\n")


@pytest.mark.parametrize("whole_group", [True, False])
def test_nothing_outlives_a_kill(run: Run, whole_group: bool) -> None:
    process = run.start("echo $$; exec sleep 100")
    assert process.stdout is not None
    training = int(process.stdout.readline())
    assert os.getpgid(training) == process.pid
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    assert gone(training)
    process.communicate()
