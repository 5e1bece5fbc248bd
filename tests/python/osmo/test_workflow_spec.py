"""Workflow files: what OSMO refuses, and what it would accept and could not run."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml

from ur10e_act.errors import UserError
from ur10e_act.osmo.workflow_spec import MAX_TASKS, cast, default_values, parse, render

WORKFLOWS = Path(__file__).parents[3] / "workflows"
PLAIN = """
workflow:
  name: plain
  groups:
  - name: one
    tasks:
    - {name: first, image: "r/i:1", command: [run]}
  - name: two
    tasks:
    - {name: second, image: "r/i:1", command: [run], inputs: [{task: first}], environment: {A: "{{input:0}}"}}
"""


def load(text: str, **values: object) -> object:
    return parse(render(text, values))


def edited(edit: str, value: object) -> str:
    """PLAIN with the entry at ``edit`` (as "groups.0.tasks.0.image") set, or removed where value is None."""
    spec = yaml.safe_load(PLAIN)
    *path, last = edit.split(".")
    place = spec["workflow"]
    for key in path:
        place = place[int(key) if key.isdigit() else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return yaml.safe_dump(spec)


GPUS = [(1, 1), (2, 1), (8, 2), (8, 8), (32, 8)]
DATA = [
    {"source": "c/p", "data_task": 0},
    {"source": "azure://a/c/p q", "data_task": 1},
    {"data_url": "s3://b/p", "azure_credential": ""},
]
REST = [
    {"output_url": ""},
    {
        "output_url": "azure://a/c/p",
        "resume_from": "azure://a/c/old-1/checkpoints",
        "platform": "h100",
        "data_platform": "cpu",
        "wandb_credential": "wandb",
        "overrides": "data.roots=['it''s \"quoted\"'] a={b: c}",
        "blob_endpoint": "http://127.0.0.1:1/a",
    },
]


@pytest.mark.parametrize(("gpus", "data", "rest"), list(itertools.product(GPUS, DATA, REST)))
@pytest.mark.parametrize("name", ["train", "ddp", "train-eval"])
def test_all_workflows_with_all_parameters(
    name: str, gpus: tuple[int, int], data: dict[str, object], rest: dict[str, object]
) -> None:
    text = (WORKFLOWS / f"osmo-workflow-{name}.yaml").read_text()
    values = {"image": "r.io/train:1", **data, **rest}
    if name != "train":
        values |= {"gpus": gpus[0], "gpus_per_node": gpus[1]}
    if name == "train-eval":
        values |= {"eval_image": "r.io/eval:1", "eval_gpus": gpus[0] % 2}
    workflow = load(text, **values)
    tasks = {task.name: task for group in workflow.groups for task in group.tasks}
    trains = [task for task in tasks.values() if task.name.startswith("train")]
    nodes = 1 if name == "train" else gpus[0] // gpus[1]
    assert len(trains) == nodes
    assert ("data" in tasks) == (data.get("data_task") == 1)
    for rank, task in enumerate(trains):
        environment = task.environment
        assert ("NNODES" in environment) == (nodes > 1)
        assert environment.get("NODE_RANK", "0") == str(rank)
        assert environment["OVERRIDES"] == f"training.save_minutes=10 {rest.get('overrides', '')}"
        assert ("DATA" in environment) != ("SOURCE" in environment)
        assert ("RESULT" in environment) == (rank == 0)
        published = rest["output_url"] and data.get("azure_credential", "azure-storage")
        assert ("CHECKPOINT_URL" in environment) == bool(published)
        assert environment.get("WANDB_RUN_ID") == ("{{workflow_id}}" if "wandb_credential" in rest else None)
        assert task.action(0) == "COMPLETE"
        assert {task.action(status) for status in (75, 134, 137, 143)} == {"RESCHEDULE"}
        assert {task.action(status) for status in (1, 2)} == {"FAIL"}
        assert bool(task.outputs) == bool(rest["output_url"] and rank == 0)
    group = next(group for group in workflow.groups if trains[0] in group.tasks)
    assert name == "train" or not group.ignore_nonlead_status
    if name == "train-eval":
        assert tasks["eval"].inputs[0] == ("task", "train-0")


def test_conversion_takes_no_gpu() -> None:
    text = (WORKFLOWS / "osmo-workflow-convert.yaml").read_text()
    values = {
        "image": "r.io/train:1",
        "source": "c/recordings",
        "dataset": "azure://a/c/d",
        "platform": "cpu",
    }
    workflow = load(text, **values, strict="1")
    task = workflow.groups[0].tasks[0]
    assert "gpu" not in workflow.resources[task.resource]
    assert (task.environment["SOURCE"], task.environment["STRICT"]) == ("c/recordings", "1")


@pytest.mark.parametrize("name", ["train", "ddp", "train-eval", "convert"])
def test_every_parameter_is_explained(name: str) -> None:
    text = (WORKFLOWS / f"osmo-workflow-{name}.yaml").read_text()
    section = text[text.index("default-values:") :].splitlines()[1:]
    explained = False
    for line in section:
        # A comment stands before each parameter, or before the few that follow one another.
        explained = explained or line.lstrip().startswith("#")
        assert explained, line
    template = text[: text.index("default-values:")]
    for parameter in default_values(text):
        assert parameter in template, f"{parameter} is used nowhere"


# The notation of the request that this project started from, which OSMO rejects.
REQUEST = """
workflow:
  name: ddp
  tasks:
  - name: train
    image: "r/i:1"
    command: [torchrun]
    groups: [{name: workers, count: 4}]
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (REQUEST, "a task has no groups: write workflow.groups"),
        (
            PLAIN.replace("{{input:0}}", "{{groups.workers.0.host}}"),
            "no token {{groups...}}: take the loop's variable .* {{host:TASK}}",
        ),
        (
            edited(
                "groups.0.tasks.0.credentials", {"AZURE_STORAGE_ACCOUNT_NAME": {"secret": "azure-storage"}}
            ),
            "write NAME: {VARIABLE: key}, like azure-storage: {AZURE_STORAGE_ACCOUNT_KEY: account_key}",
        ),
        (edited("groups.0.count", 4), "write the tasks out with {% for rank in range"),
        (edited("groups.0.tasks.0.inputs", [{"dataset": {"name": "x"}}]), "osmo data upload"),
        (PLAIN + "env: {}\n", "unknown top-level key 'env'"),
        ("version: 3\n" + PLAIN, "version: OSMO knows 2 alone"),
        ("default-values: {}\n", "no top-level key 'workflow'"),
        ("workflow:\n  name: [\n", "no YAML"),
        (PLAIN.replace("name: plain", "name: {{ nobody }}"), "'nobody' is undefined"),
        (PLAIN.replace("name: plain", "name: {{ if"), "cannot be rendered"),
        (edited("name", "1st"), "workflow.name: '1st' is not a name"),
        (edited("name", "a" * 65), "is not a name"),
        (edited("groups", []), "needs either groups or tasks"),
        (edited("labels", {}), "workflow.labels: unknown key"),
        (edited("timeout", {"exec_timeout": "1h30m"}), "is not a duration like 12h"),
        (edited("resources", {"default": {"memory": "8GB"}}), "'8GB' is not an amount like 64Gi"),
        (edited("resources", {"default": {"gpu": "2"}}), "gpu: '2' is not a whole number"),
        (edited("resources", {"default": {"shm": "2Gi"}}), "shm: unknown key"),
        (edited("groups.0.tasks.0.resource", "big"), "'big' is not in workflow.resources"),
        (edited("groups.0.tasks.0.image", ""), "image: is empty"),
        (edited("groups.0.tasks.0.command", []), "command: is empty"),
        (edited("groups.0.tasks.0.command", None), "command is missing"),
        (edited("groups.0.tasks.0.command", "run"), "'run' is not a list"),
        (edited("groups.0.tasks.0.replicas", 2), "groups.0.tasks.0.replicas: unknown key"),
        (edited("groups.0.tasks.0.environment", {"A": None}), "environment.A: None is not text"),
        (edited("groups.0.tasks.0.environment", {"1A": "x"}), "'1A' is not the name of a variable"),
        (edited("groups.0.tasks.0.credentials", {"azure": ["a"]}), "needs {VARIABLE: key}"),
        (edited("groups.0.tasks.0.exitActions", {"RETRY": "3"}), "RETRY: no such action"),
        (edited("groups.0.tasks.0.exitActions", {"FAIL": "a"}), "is not a list of codes"),
        (edited("groups.0.tasks.0.exitActions", {"FAIL": "1-300"}), "goes beyond 255"),
        (edited("groups.0.tasks.0.outputs", [{"url": "/tmp/x"}]), "'/tmp/x' is not a URL"),
        (edited("groups.0.tasks.0.outputs", [{"url": "azure://account"}]), "is not a URL"),
        (edited("groups.0.tasks.0.outputs", [{"path": "x"}]), "outputs.0.path: unknown key"),
        (edited("groups.0.tasks.0.name", "ONE"), "two groups or tasks are called 'ONE'"),
        (
            edited("groups.0.tasks.0.inputs", [{"task": "second"}]),
            "'second' is not a task of a group before",
        ),
        (edited("groups.1.tasks.0.inputs", [{"task": "second"}]), "is in its own group"),
        (edited("groups.1.tasks.0.environment", {"A": "{{input:1}}"}), "{{input:1}} would stay literal text"),
        (edited("groups.1.tasks.0.environment", {"A": "{{host:second}}"}), "would stay literal text"),
        (edited("groups.1.tasks.0.environment", {"A": "{{host:first}}"}), "would stay literal text"),
    ],
)
def test_refused_with_the_place_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(text)
    assert re.search(message.replace("{", r"\{").replace("(", r"\("), str(caught.value)), caught.value


def test_two_leads_and_too_many_tasks() -> None:
    task = {"image": "r/i:1", "command": ["run"]}
    tasks = [{"name": f"t{index}", "lead": index == 0, **task} for index in range(MAX_TASKS + 1)]
    group = {"name": "g", "tasks": tasks[:MAX_TASKS]}
    spec = {"workflow": {"name": "w", "groups": [group]}}
    assert len(parse(yaml.safe_dump(spec)).groups[0].tasks) == MAX_TASKS
    group["tasks"] = tasks
    with pytest.raises(UserError, match="21 tasks, but OSMO takes 20"):
        parse(yaml.safe_dump(spec))
    group["tasks"] = [dict(each, lead=True) for each in tasks[:2]]
    with pytest.raises(UserError, match="2 tasks with lead: true, and needs one"):
        parse(yaml.safe_dump(spec))
    group["tasks"] = [dict(each, lead=False) for each in tasks[:2]]
    with pytest.raises(UserError, match="0 tasks with lead: true"):
        parse(yaml.safe_dump(spec))


def test_a_parameter_that_the_file_does_not_have_is_refused() -> None:
    text = PLAIN + "default-values: {gpus: 2}\n"
    with pytest.raises(UserError, match="gpsu is not a parameter of this workflow: it has gpus"):
        load(text, gpsu=4)


def test_set_casts_as_osmo_does() -> None:
    assert [cast(value) for value in ("4", "007", "1e5", "3.0", "true", "a=b")] == [
        4,
        7,
        1e5,
        3.0,
        "true",
        "a=b",
    ]
