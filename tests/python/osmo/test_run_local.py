"""run_local.py on small workflows of shell commands: order, folders, exit actions, masking, the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RUN_LOCAL = ["-m", "ur10e_act.osmo.run_local"]


@pytest.fixture
def run(tmp_path: Path):
    """Runs a workflow of tasks, each {name, script, ...}, grouped; returns (status, lines)."""

    def call(groups: str, *arguments: str, **environment: str) -> tuple[int, list[str]]:
        file = tmp_path / "workflow.yaml"
        file.write_text("workflow:\n  name: w\n  groups:\n" + groups)
        command = [sys.executable, *RUN_LOCAL, file, "--work", tmp_path / "work", *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **environment},
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).splitlines()

    return call


def group(name: str, *tasks: str, extra: str = "") -> str:
    return f"  - name: {name}\n{extra}    tasks:\n" + "".join(tasks)


def task(name: str, script: str, **keys: str) -> str:
    lines = "".join(f"      {key}: {value}\n" for key, value in keys.items())
    return f"    - name: {name}\n      image: r/i:1\n      command: [bash, -c, {script!r}]\n{lines}"


def test_outputs_become_inputs_without_links_to_folders_and_hidden_names(run) -> None:
    script = "cd $OUT && mkdir d && echo hello >d/f && ln -s d l && ln -s d/f g && echo x >.hidden"
    make = task("make", script, environment='{OUT: "{{output}}"}')
    take = task(
        "take", "cd $IN && ls -A && cat d/f g", environment='{IN: "{{input:make}}"}', inputs="[{task: make}]"
    )
    status, lines = run(group("one", make) + group("two", take))
    assert status == 0, lines
    assert [line for line in lines if line.startswith("[take]")] == [
        f"[take] {word}" for word in ("d", "g", "hello", "hello")
    ]


def test_a_local_url_brings_and_takes_files(run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "f").write_text("from outside\n")
    copy = task(
        "copy",
        "cp $IN/f $OUT/copied",
        environment='{IN: "{{input:0}}", OUT: "{{output}}"}',
        inputs=f"[{{url: azure://local{tmp_path}/data}}]",
        outputs=f'[{{url: "azure://local{tmp_path}/results/{{{{workflow_id}}}}"}}]',
    )
    status, lines = run(group("one", copy))
    assert status == 0, lines
    assert (tmp_path / "results" / "w-1" / "copied").read_text() == "from outside\n"


def test_tasks_of_a_group_run_together_with_one_port(run) -> None:
    # Each waits for the other's line in a named pipe: one after the other they would wait for ever.
    lead = task(
        "lead", 'read word <$P; echo "lead has $word at $H:$MASTER_PORT"',
        environment='{P: "PIPE", H: "{{host:lead}}", MASTER_PORT: "29500"}', lead="true",
    )  # fmt: skip
    other = task(
        "other", 'echo hello >$P; echo "port $MASTER_PORT"', environment='{P: "PIPE", MASTER_PORT: "29500"}'
    )
    pipe = "/tmp/run-local-test-" + str(os.getpid())
    os.mkfifo(pipe)
    try:
        status, lines = run(group("both", lead, other).replace("PIPE", pipe))
    finally:
        os.unlink(pipe)
    assert status == 0, lines
    port = next(line for line in lines if line.startswith("[other]")).split()[-1]
    assert f"[lead] lead has hello at 127.0.0.1:{port}" in lines
    assert port != "29500"


def test_reschedule_starts_the_whole_group_again(run, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    lead = task(
        "lead",
        f"echo lead starts; test -e {marker} || sleep 60",
        lead="true",
        exitActions="{RESCHEDULE: '75'}",
    )
    other = task(
        "other", f"test -e {marker} || {{ touch {marker}; exit 75; }}", exitActions="{RESCHEDULE: '75'}"
    )
    strict = "    ignoreNonleadStatus: false\n"
    status, lines = run(group("both", lead, other, extra=strict))
    assert status == 0, lines
    assert lines.count("[lead] lead starts") == 2
    assert any("other ended with 75: RESCHEDULED" in line for line in lines)


def test_retries_come_to_an_end(run) -> None:
    status, lines = run(
        group("one", task("t", "exit 75", exitActions="{RESCHEDULE: '75'}")), "--retries", "2"
    )
    assert status == 1
    assert sum(line.removeprefix("run-local: ") == "t ended with 75" for line in lines) == 3
    assert "2 retries are all there are" in lines[-1]


def test_a_failed_worker_fails_a_strict_group_and_later_groups_do_not_run(run) -> None:
    lead, worker = task("lead", "sleep 60", lead="true"), task("worker", "exit 3")
    later = group("later", task("later-task", "echo never"))
    status, lines = run(group("g", lead, worker, extra="    ignoreNonleadStatus: false\n") + later)
    assert status == 1
    assert "worker ended with 3: group g FAILED" in lines[-1]
    assert not any("never" in line for line in lines)


def test_a_failed_worker_of_a_lenient_group_is_passed_over(run) -> None:
    lead = task("lead", "read -t 1 </dev/null; sleep 1; echo lead done", lead="true")
    status, lines = run(group("g", lead, task("worker", "exit 3")))
    assert status == 0, lines
    assert "[lead] lead done" in lines


def test_what_a_failed_task_has_left_is_uploaded(run, tmp_path: Path) -> None:
    leaves = task(
        "t", "echo half >$OUT/f; exit 3", environment='{OUT: "{{output}}"}',
        outputs=f"[{{url: azure://local{tmp_path}/results}}]",
    )  # fmt: skip
    assert run(group("g", leaves))[0] == 1
    assert (tmp_path / "results" / "f").read_text() == "half\n"


def test_credentials_come_from_our_environment_and_are_masked(run) -> None:
    shows = task("t", "echo key $KEY; env", credentials="{store: {KEY: key}}")
    status, lines = run(group("g", shows), KEY="a-secret-value", LEAK="must not be seen")
    assert status == 0, lines
    assert "[t] key [MASKED]" in lines
    assert not any("a-secret-value" in line or "must not be seen" in line for line in lines)
    status, lines = run(group("g", shows), KEY="")
    assert status == 2
    assert lines[-1] == "error: KEY is not set: secrets.env has to hold what credential store has as key"


def test_ctrl_c_ends_all_processes(tmp_path: Path) -> None:
    file = tmp_path / "workflow.yaml"
    script = "echo pid $$; trap '' TERM INT; sleep 600"
    file.write_text("workflow:\n  name: w\n  groups:\n" + group("g", task("t", script)))
    process = subprocess.Popen(
        [sys.executable, *RUN_LOCAL, file, "--work", tmp_path / "work"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = int(process.stdout.readline().split()[-1])
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
