"""Rehearse an OSMO workflow on this machine: its tasks run as processes; no cluster, no containers.

Groups run in the order of the file, the tasks of a group together. {{host:TASK}} is 127.0.0.1 with a port of
the group's own, {{input:N}} and {{output}} are directories, exitActions are followed, and azcopy transfers
files in place of osmo-ctrl. As OSMO does, outputs are handed on without links to directories, and values of
credentials are masked. A URL azure://local/PATH is the directory /PATH.

    python -m ur10e_act.osmo.run_local [FILE [--set NAME=VALUE ...] [--set-string NAME=VALUE ...]]
        [--work DIR] [--retries N] [--plan]

Without FILE, the environment names the workflow and its parameters, as in scripts/submit.sh.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ur10e_act.errors import UserError, run_cli
from ur10e_act.osmo.parameters import ROOT, WorkflowParameters
from ur10e_act.osmo.workflow_spec import Group, Task, Workflow, add_arguments, load

LOCAL = "azure://local/"
# What a task has from this machine in place of an image; all else comes from the workflow.
INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "AZCOPY",
    "OMP_NUM_THREADS",
    "TORCH_HOME",
)
MASK = "[MASKED]"


class TaskFailed(Exception):
    """A task that OSMO would count as failed; the message says why."""


@dataclass(frozen=True)
class Run:
    """One attempt at one task: its folders and what it is given."""

    task: Task
    folder: Path
    environment: dict[str, str]
    secrets: dict[str, str]

    @property
    def output(self) -> Path:
        return self.folder / "output"


class Process:
    """The command of a run, in the place of the image's WORKDIR, in a session of its own."""

    def __init__(self, run: Run) -> None:
        """Start it. UserError where it cannot be started."""
        self.run = run
        self.killed = False
        self.reader = threading.Thread(target=self._print_lines)
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        # An image has no secrets.env.
        secrets = run.folder / "secrets.env"
        secrets.touch(mode=0o600, exist_ok=True)
        try:
            self.process = subprocess.Popen(
                [*run.task.command, *run.task.args],
                cwd=ROOT,
                env={**inherited, "SECRETS": str(secrets), **run.environment, **run.secrets},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"{run.task.name}: {run.task.command[0]} cannot be started ({error})") from None

    def follow(self, ended: queue.Queue[Process]) -> None:
        """Print its lines, with the task's name before them; ``ended`` gets it when it ends."""
        self.reader.start()
        threading.Thread(target=self._report_end, args=(ended,), daemon=True).start()

    def _print_lines(self) -> None:
        for line in self.process.stdout or ():
            for value in self.run.secrets.values():
                line = line.replace(value, MASK) if len(value) >= 8 else line
            # One write, so that the lines of several tasks do not mix.
            sys.stdout.write(f"[{self.run.task.name}] {line.rstrip()}\n")
            sys.stdout.flush()

    def _report_end(self, ended: queue.Queue[Process]) -> None:
        self.process.wait()
        ended.put(self)

    @property
    def status(self) -> int:
        """128 + N for a process that signal N ended, as a shell and Kubernetes have it. Waits for the end."""
        status = self.process.wait()
        return status if status >= 0 else 128 - status

    def kill(self) -> None:
        """End the task as a deleted pod ends: by SIGKILL, without a signal before."""
        if self.process.poll() is None:
            self.killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class Rehearsal:
    """``workflow_id`` and the outputs that later groups take."""

    workflow: Workflow
    workflow_id: str
    work: Path
    retries: int
    outputs: dict[str, Path] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)
    running: list[Process] = field(default_factory=list)

    def run(self) -> None:
        """Run all groups; TaskFailed where OSMO's workflow would end as FAILED."""
        try:
            for group in self.workflow.groups:
                self._run_group(group)
        finally:
            for process in self.running:
                process.kill()
            for process in self.running:
                process.process.wait()

    def _run_group(self, group: Group) -> None:
        attempt = 0
        while True:
            say(f"group {group.name}: {', '.join(task.name for task in group.tasks)}, retry {attempt}")
            verdict, reason = self._attempt(group)
            if verdict == "COMPLETE":
                say(f"group {group.name}: COMPLETED")
                return
            if verdict == "FAIL":
                raise TaskFailed(f"{reason}: group {group.name} FAILED")
            attempt += 1
            if attempt > self.retries:
                raise TaskFailed(
                    f"{reason}: would be rescheduled, but {self.retries} retries are all there are"
                )
            say(f"{reason}: RESCHEDULED")

    def _attempt(self, group: Group) -> tuple[str, str]:
        """Start all tasks of the group once, and wait for what ends it: (action, why)."""
        port = str(free_port())
        gpus = iter(visible_gpus())
        runs = []
        for task in group.tasks:
            folder = self.work / task.name / str(self.pods.setdefault(task.name, 0))
            wanted = gpu_count(task, self.workflow)
            environment, secrets = task_environment(task, group, self.workflow_id, folder, port, wanted)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(
                gpu for _, gpu in zip(range(wanted), gpus, strict=False)
            )
            runs.append(Run(task, folder, environment, secrets))
        for run in runs:
            if not run.folder.exists():
                prepare_folders(run, self.outputs)
        ended: queue.Queue[Process] = queue.Queue()
        self.running = []
        for run in runs:
            # Known before anything else happens, so that Ctrl-C ends it.
            self.running.append(Process(run))
            self.running[-1].follow(ended)
        verdict, reason = self._judge(group, ended)
        for process in self.running:
            process.kill()
        for process in self.running:
            # What a command has left is uploaded also when it has failed; a deleted pod uploads nothing.
            process.process.wait()
            process.reader.join()
            if not process.killed:
                upload(process.run, output_urls(process.run.task, self.workflow_id))
                self.outputs[process.run.task.name] = process.run.output
        return verdict, reason

    def _judge(self, group: Group, ended: queue.Queue[Process]) -> tuple[str, str]:
        for _ in group.tasks:
            process = ended.get()
            task, status = process.run.task, process.status
            action = task.action(status)
            lead = task.lead or len(group.tasks) == 1
            reason = f"{task.name} ended with {status}"
            say(reason)
            if action == "RESCHEDULE":
                # This task gets a new pod; the others start again where they were.
                self.pods[task.name] += 1
            if action != "COMPLETE" and (lead or not group.ignore_nonlead_status):
                return action, reason
            if action == "COMPLETE" and lead:
                return action, reason
        raise AssertionError("the lead task has ended, whatever its status")


def gpu_count(task: Task, workflow: Workflow) -> int:
    return int(workflow.resources[task.resource].get("gpu", 0))


def task_environment(
    task: Task, group: Group, workflow_id: str, folder: Path, port: str, gpus: int
) -> tuple[dict[str, str], dict[str, str]]:
    """The variables of a task, its tokens replaced; and those of its credentials, from our environment."""
    tokens = {"workflow_id": workflow_id, "output": str(folder / "output")}
    for index, (kind, source) in enumerate(task.inputs):
        tokens[f"input:{index}"] = str(folder / "input" / str(index))
        if kind == "task":
            tokens[f"input:{source}"] = tokens[f"input:{index}"]
    tokens |= {f"host:{other.name}": "127.0.0.1" for other in group.tasks}
    environment = {
        key: re.sub(r"{{(.*?)}}", lambda match: tokens[match[1]], value)
        for key, value in task.environment.items()
    }
    if "SCRATCH" in environment:
        environment["SCRATCH"] = str(folder / "scratch")
    if "MASTER_PORT" in environment:
        environment["MASTER_PORT"] = port
    if not gpus:
        environment["NVIDIA_VISIBLE_DEVICES"] = ""
    secrets = {}
    for name, keys in task.credentials.items():
        if isinstance(keys, str):
            raise UserError(
                f"{task.name}: credential {name} is to be mounted at {keys}, which only OSMO can do"
            )
        for variable, key in keys.items():
            value = os.environ.get(variable, "")
            if not value:
                raise UserError(
                    f"{variable} is not set: secrets.env has to hold what credential {name} has as {key}"
                )
            secrets[variable] = value
    return environment, secrets


def prepare_folders(run: Run, outputs: Mapping[str, Path]) -> None:
    """An empty output, and the inputs, which osmo-ctrl downloads before the command starts."""
    for name in ("output", "scratch", "input"):
        (run.folder / name).mkdir(parents=True)
    for index, (kind, source) in enumerate(run.task.inputs):
        target = run.folder / "input" / str(index)
        if kind == "task":
            copy_without_links(outputs[source], target)
        elif source.startswith(LOCAL):
            copy_without_links(Path("/" + source.removeprefix(LOCAL)), target)
        else:
            transfer("fetch.sh", source, str(target))


def output_urls(task: Task, workflow_id: str) -> list[str]:
    return [url.replace("{{workflow_id}}", workflow_id) for url in task.outputs]


def upload(run: Run, urls: list[str]) -> None:
    """Hand the output to ``urls``; the names that OSMO's ``output/*`` means, and no links to folders."""
    for url in urls:
        if not any(not entry.name.startswith(".") for entry in run.output.iterdir()):
            continue
        staging = run.folder / "upload"
        copy_without_links(run.output, staging)
        if url.startswith(LOCAL):
            shutil.copytree(staging, Path("/" + url.removeprefix(LOCAL)), dirs_exist_ok=True)
        else:
            transfer("publish.sh", str(staging), url)
        shutil.rmtree(staging)


def copy_without_links(source: Path, target: Path) -> None:
    """Copy files, also linked ones, but no links to folders and no hidden names at the top, as OSMO does."""
    if not source.is_dir():
        raise UserError(f"{source} is not a directory")

    def skipped(folder: str, names: list[str]) -> set[str]:
        top = Path(folder) == source
        links = {
            name for name in names if os.path.islink(f"{folder}/{name}") and os.path.isdir(f"{folder}/{name}")
        }
        return links | {name for name in names if top and name.startswith(".")}

    shutil.copytree(source, target, ignore=skipped, copy_function=link_or_copy)


def link_or_copy(source: str, target: str) -> None:
    """A hard link costs nothing, and nobody writes into an output or a dataset any more."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def transfer(script: str, source: str, target: str) -> None:
    done = subprocess.run([ROOT / "scripts" / script, source, target], stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise TaskFailed(f"{script} {source} {target} ended with {done.returncode}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def visible_gpus() -> list[str]:
    """Indices of this machine's NVIDIA GPUs."""
    return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))


def plan(workflow: Workflow, workflow_id: str, work: Path) -> list[dict[str, Any]]:
    """What would run, to compare with what OSMO makes of the same file; without values of secrets."""
    tasks = []
    for group in workflow.groups:
        for task in group.tasks:
            folder, gpus = work / task.name / "0", gpu_count(task, workflow)
            environment, _ = task_environment(task, group, workflow_id, folder, "29500", gpus)
            tasks.append(
                {
                    "group": group.name,
                    "task": task.name,
                    "command": [*task.command, *task.args],
                    "environment": environment,
                    "credentials": dict(task.credentials),
                    "inputs": [source for _, source in task.inputs],
                    "outputs": output_urls(task, workflow_id),
                }
            )
    return tasks


def say(text: str) -> None:
    print(f"run-local: {text}", file=sys.stderr, flush=True)


def next_id(base: Path, name: str) -> str:
    """NAME-1, NAME-2 ...: the first that this folder has not seen, made at once."""
    base.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1_000_000):
        with contextlib.suppress(FileExistsError):
            (base / f"{name}-{number}").mkdir()
            return f"{name}-{number}"
    raise UserError(f"{base}: full; remove old runs")


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end everything as Ctrl-C does; SIGINT, too, where we began with it ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(each, interrupt) for each in caught]
    try:
        yield
    finally:
        for each, handler in zip(caught, before, strict=True):
            signal.signal(each, handler)


def rehearse(workflow: Workflow, base: Path, retries: int) -> int:
    """Run the workflow in a folder of its own in ``base``; 0 where it has COMPLETED, else 1."""
    workflow_id = next_id(base, workflow.name)
    say(f"workflow {workflow_id} in {base / workflow_id}")
    try:
        with ended_by_signals():
            Rehearsal(workflow, workflow_id, base / workflow_id, retries).run()
    except TaskFailed as failed:
        say(f"workflow {workflow_id}: {failed}")
        return 1
    say(f"workflow {workflow_id}: COMPLETED")
    return 0


def parameters_of_environment() -> WorkflowParameters:
    localpath = os.environ.get("LOCALPATH", "")
    return WorkflowParameters.from_environment(
        os.environ, f"{LOCAL.rstrip('/')}{Path(localpath).resolve()}" if localpath else ""
    )


def need_azcopy() -> None:
    if not os.environ.get("AZCOPY") and shutil.which("azcopy") is None:
        done = subprocess.run([ROOT / "scripts" / "setup.sh", "azcopy"], check=False)
        if done.returncode != 0:
            sys.exit(done.returncode)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, file_optional=True)
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "run-local")
    parser.add_argument(
        "--retries", type=int, default=3, help="OSMO's max_retry_per_task, which is 0 unless set"
    )
    parser.add_argument("--plan", action="store_true", help="print as JSON what would run, and stop")
    args = parser.parse_args()
    if args.file is None:
        parameters = parameters_of_environment()
        _, workflow = load(parameters.file, *parameters.template_parameters())
        if parameters.azure and not args.plan:
            need_azcopy()
    else:
        _, workflow = load(args.file, args.set, args.set_string)
    base = args.work.resolve()
    if args.plan:
        print(json.dumps(plan(workflow, f"{workflow.name}-1", base / f"{workflow.name}-1"), indent=2))
        return 0
    return rehearse(workflow, base, args.retries)


if __name__ == "__main__":
    run_cli(main)
