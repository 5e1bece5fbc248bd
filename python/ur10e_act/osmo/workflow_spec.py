"""An OSMO workflow file as OSMO's server understands it: rendered, and checked as strictly, without one.

Rendering and schema follow NVIDIA/OSMO, src/utils/job/{workflow,task}.py and src/lib/utils/workflow.py (6.4).
Beyond the server's own checks, what it accepts and what then can never run is refused too: tokens that would
stay literal text, exit codes above 255, host names of tasks that have none.

    python -m ur10e_act.osmo.workflow_spec FILE [--set NAME=VALUE ...] [--set-string NAME=VALUE ...]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.sandbox
import yaml

from ur10e_act.errors import UserError, one_line, run_cli

MAX_TASKS = 20  # OSMO's default; an admin can change it
NAME = re.compile(r"[a-zA-Z]([a-zA-Z0-9_-]*[a-zA-Z0-9])?")
TOKEN = re.compile(r"{{(uuid|workflow_id|output|input:[^}]+|host:[^}]+)}}")
SECTION = re.compile(
    r"^([a-zA-Z][a-zA-Z0-9_-]*):(.*?)(?=^[a-zA-Z][a-zA-Z0-9_-]*:|\Z)", re.DOTALL | re.MULTILINE
)
URL = re.compile(r"(azure://[^/]+/[^/]+|(s3|gs|tos|swift)://[^/]+)(/.*)?")
DURATION = re.compile(r"\d+(\.\d+)?(d|h|m|s|ms|us)|P.+")
QUANTITY = re.compile(r"\d+(\.\d+)?(B|Ki|K|Mi|M|Gi|G|Ti|T|Pi|P|Ei|E|m)?")
EXIT_CODES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# What looks like OSMO's notation, and is not.
FOREIGN = {
    r"{{\s*groups\.": "OSMO has no token {{groups...}}: take the loop's variable for a rank, "
    "a template variable for a count, and {{host:TASK}} for a host",
}


@dataclass(frozen=True)
class Task:
    """One container. ``inputs`` are ("task", NAME) or ("url", URL), in the order of their numbers."""

    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    lead: bool = False
    resource: str = "default"
    environment: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()
    exit_actions: Mapping[str, str] = field(default_factory=dict)

    def action(self, status: int) -> str:
        """COMPLETE, FAIL or RESCHEDULE: what OSMO does when the command ends with ``status``."""
        for action, codes in self.exit_actions.items():
            for part in codes.split(","):
                low, _, high = part.partition("-")
                if int(low) <= status <= int(high or low):
                    return action.upper()
        return "FAIL" if status else "COMPLETE"


@dataclass(frozen=True)
class Group:
    """Tasks that start together. Without ``ignore_nonlead_status`` one failed task fails all."""

    name: str
    tasks: tuple[Task, ...]
    ignore_nonlead_status: bool = True


@dataclass(frozen=True)
class Workflow:
    name: str
    groups: tuple[Group, ...]
    resources: Mapping[str, Mapping[str, Any]]


def default_values(text: str) -> dict[str, Any]:
    """The parameters of a workflow file and their defaults."""
    return _sections(text)[1]


def _sections(text: str) -> tuple[str, dict[str, Any]]:
    """The text of ``workflow:`` alone, which is all that OSMO renders, and the default values."""
    sections: dict[str, str] = {}
    for match in SECTION.finditer(text):
        key = match.group(1)
        if key not in ("version", "workflow", "default-values"):
            raise UserError(f"unknown top-level key {key!r}: OSMO knows version, workflow and default-values")
        if key in sections:
            raise UserError(f"top-level key {key!r} twice")
        sections[key] = match.group(0)
    if "workflow" not in sections:
        raise UserError("no top-level key 'workflow'")
    if "version" in sections and str(_yaml(sections["version"], "version")["version"]) != "2":
        raise UserError("version: OSMO knows 2 alone")
    defaults: dict[str, Any] = {}
    if "default-values" in sections:
        defaults = _yaml(sections["default-values"], "default-values")["default-values"] or {}
    return sections["workflow"], defaults


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what}: no YAML: {one_line(error)}") from None


def render(text: str, values: Mapping[str, Any]) -> str:
    """The workflow section with its variables filled in; OSMO's own tokens, as {{output}}, stay.

    Raises UserError for a value that the file has no default for (OSMO would pass over it), for an undefined
    variable and for broken Jinja.
    """
    for pattern, message in FOREIGN.items():
        if re.search(pattern, text):
            raise UserError(message)
    template, data = _sections(text)
    unknown = sorted(set(values) - set(data))
    if unknown:
        raise UserError(f"{unknown[0]} is not a parameter of this workflow: it has {', '.join(data)}")
    data = data | dict(values)
    for index, token in enumerate(dict.fromkeys(TOKEN.findall(template))):
        data[f"osmo_token_{index}"] = "{{" + token + "}}"
        template = template.replace("{{" + token + "}}", "{{" + f"osmo_token_{index}" + "}}")
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined)
    try:
        return environment.from_string(template).render(data)
    except (jinja2.TemplateError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"the template cannot be rendered: {error}") from None


def cast(value: str) -> int | float | str:
    """A value of ``--set`` as OSMO takes it: an int where it is one, else a float, else text."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def parse(rendered: str) -> Workflow:
    """The workflow of a rendered file. UserError with the place of the first thing that is wrong."""
    spec = _mapping(_yaml(rendered, "the rendered workflow")["workflow"], "workflow")
    _keys(spec, "workflow", ("name",), ("pool", "groups", "tasks", "resources", "timeout", "backend"))
    name = _name(spec["name"], "workflow.name")
    for key, value in _mapping(spec.get("timeout", {}), "workflow.timeout").items():
        where = f"workflow.timeout.{key}"
        if key not in ("exec_timeout", "queue_timeout"):
            _refuse(where, "unknown key")
        if not isinstance(value, (int, float)) and not DURATION.fullmatch(str(value)):
            _refuse(where, f"{value!r} is not a duration like 12h or 30m (one unit)")
    resources = _mapping(spec.get("resources", {"default": {}}), "workflow.resources")
    for key, resource in resources.items():
        _resource(resource, f"workflow.resources.{key}")
    if bool(spec.get("groups")) == bool(spec.get("tasks")):
        _refuse("workflow", "needs either groups or tasks")
    groups = tuple(_groups(spec, resources))
    _check_names(groups)
    _check_graph(groups)
    count = sum(len(group.tasks) for group in groups)
    if count > MAX_TASKS:
        _refuse(
            "workflow",
            f"has {count} tasks, but OSMO takes {MAX_TASKS} by default: give more GPUs to each node",
        )
    return Workflow(name, groups, resources)


def _groups(spec: Mapping[str, Any], resources: Mapping[str, Any]) -> Iterator[Group]:
    for index, value in enumerate(_list(spec.get("tasks", []), "workflow.tasks")):
        task = _task(value, f"workflow.tasks.{index}", resources)
        yield Group(f"{task.name}-group", (task,))
    for index, value in enumerate(_list(spec.get("groups", []), "workflow.groups")):
        where = f"workflow.groups.{index}"
        if isinstance(value, Mapping) and "count" in value:
            _refuse(f"{where}.count", "no such key: write the tasks out with {% for rank in range(nodes) %}")
        _keys(value, where, ("name", "tasks"), ("barrier", "ignoreNonleadStatus"))
        for key in ("barrier", "ignoreNonleadStatus"):
            if not isinstance(value.get(key, True), bool):
                _refuse(f"{where}.{key}", f"{value[key]!r} is not true or false")
        tasks = [
            _task(task, f"{where}.tasks.{number}", resources)
            for number, task in enumerate(_list(value["tasks"], f"{where}.tasks"))
        ]
        if not tasks:
            _refuse(where, "has no tasks")
        leads = sum(task.lead for task in tasks)
        if leads != 1 and len(tasks) > 1:
            _refuse(where, f"has {leads} tasks with lead: true, and needs one")
        yield Group(
            _name(value["name"], f"{where}.name"), tuple(tasks), value.get("ignoreNonleadStatus", True)
        )


TASK_KEYS = (
    "args", "inputs", "outputs", "environment", "credentials", "resource", "lead", "exitActions",
    "checkpoint", "kpis", "files", "volumeMounts", "privileged", "hostNetwork", "downloadType", "cacheSize",
)  # fmt: skip


def _task(value: Any, where: str, resources: Mapping[str, Any]) -> Task:
    if isinstance(value, Mapping) and "groups" in value:
        _refuse(f"{where}.groups", "a task has no groups: write workflow.groups, and the group's tasks in it")
    _keys(value, where, ("name", "image", "command"), TASK_KEYS)
    name = _name(value["name"], f"{where}.name")
    if not isinstance(value["image"], str) or not value["image"].strip():
        _refuse(f"{where}.image", "is empty: name an image with registry and tag")
    command = tuple(_text(part, f"{where}.command") for part in _list(value["command"], f"{where}.command"))
    if not command:
        _refuse(f"{where}.command", "is empty")
    args = tuple(_text(part, f"{where}.args") for part in _list(value.get("args", []), f"{where}.args"))
    if value.get("resource", "default") not in resources:
        _refuse(f"{where}.resource", f"{value.get('resource', 'default')!r} is not in workflow.resources")
    environment = {}
    for key, item in _mapping(value.get("environment", {}), f"{where}.environment").items():
        if not ENVIRONMENT_NAME.fullmatch(str(key)):
            _refuse(f"{where}.environment", f"{key!r} is not the name of a variable")
        environment[str(key)] = _text(item, f"{where}.environment.{key}")
    exit_actions = _exit_actions(value.get("exitActions", {}), f"{where}.exitActions")
    for index, checkpoint in enumerate(_list(value.get("checkpoint", []), f"{where}.checkpoint")):
        _keys(checkpoint, f"{where}.checkpoint.{index}", ("path", "url", "frequency"), ("regex",))
        _url(checkpoint["url"], f"{where}.checkpoint.{index}.url")
    for index, item in enumerate(_list(value.get("files", []), f"{where}.files")):
        _keys(item, f"{where}.files.{index}", ("path",), ("contents", "localpath", "base64"))
    return Task(
        name=name,
        image=value["image"],
        command=command,
        args=args,
        lead=bool(value.get("lead", False)),
        resource=value.get("resource", "default"),
        environment=environment,
        credentials=_credentials(value.get("credentials", {}), f"{where}.credentials"),
        inputs=tuple(_inputs(value.get("inputs", []), f"{where}.inputs")),
        outputs=tuple(_outputs(value.get("outputs", []), f"{where}.outputs")),
        exit_actions=exit_actions,
    )


def _exit_actions(value: Any, where: str) -> dict[str, str]:
    actions = {str(key): str(codes) for key, codes in _mapping(value, where).items()}
    for action, codes in actions.items():
        if action.upper() not in ("COMPLETE", "FAIL", "RESCHEDULE"):
            _refuse(f"{where}.{action}", "no such action: COMPLETE, FAIL or RESCHEDULE")
        if not EXIT_CODES.fullmatch(codes):
            _refuse(f"{where}.{action}", f"{codes!r} is not a list of codes like 1,3-5")
        if any(int(code) > 255 for code in re.split("[,-]", codes)):
            _refuse(f"{where}.{action}", f"{codes!r} goes beyond 255, where OSMO's own codes begin")
    return actions


def _credentials(value: Any, where: str) -> dict[str, str | dict[str, str]]:
    credentials: dict[str, str | dict[str, str]] = {}
    for name, keys in _mapping(value, where).items():
        if not NAME.fullmatch(str(name)):
            _refuse(where, f"{name!r} is not the name of a credential")
        if isinstance(keys, Mapping):
            if "secret" in keys:
                _refuse(
                    f"{where}.{name}",
                    "OSMO reads this as: variable 'secret' from a credential of this name; write "
                    "NAME: {VARIABLE: key}, like azure-storage: {AZURE_STORAGE_ACCOUNT_KEY: account_key}",
                )
            credentials[str(name)] = {
                str(variable): _text(key, f"{where}.{name}.{variable}") for variable, key in keys.items()
            }
        elif isinstance(keys, str) and keys.startswith("/"):
            credentials[str(name)] = keys
        else:
            _refuse(f"{where}.{name}", "needs {VARIABLE: key}, or a folder to mount it in")
    return credentials


def _inputs(value: Any, where: str) -> Iterator[tuple[str, str]]:
    for index, item in enumerate(_list(value, where)):
        place = f"{where}.{index}"
        if isinstance(item, Mapping) and "dataset" in item:
            _refuse(place, "OSMO has no datasets any more: upload with osmo data upload, and name the url")
        kind = "task" if isinstance(item, Mapping) and "task" in item else "url"
        _keys(item, place, (kind,), ("regex",))
        if kind == "url":
            _url(item["url"], f"{place}.url")
        yield kind, _text(item[kind], f"{place}.{kind}")


def _outputs(value: Any, where: str) -> Iterator[str]:
    for index, item in enumerate(_list(value, where)):
        _keys(item, f"{where}.{index}", ("url",), ("regex",))
        yield _url(item["url"], f"{where}.{index}.url")


def _resource(value: Any, where: str) -> None:
    _keys(value, where, (), ("cpu", "gpu", "memory", "storage", "platform", "nodesExcluded", "topology"))
    for key in ("cpu", "gpu"):
        if not isinstance(value.get(key, 0), int) or value.get(key, 0) < 0:
            _refuse(f"{where}.{key}", f"{value[key]!r} is not a whole number")
    for key in ("memory", "storage"):
        if key in value and not QUANTITY.fullmatch(str(value[key])):
            _refuse(f"{where}.{key}", f"{value[key]!r} is not an amount like 64Gi")


def _check_names(groups: Sequence[Group]) -> None:
    seen: dict[str, str] = {}
    for name in [name for group in groups for name in (group.name, *(task.name for task in group.tasks))]:
        key = name.lower().replace("_", "-")
        if key in seen:
            _refuse("workflow", f"two groups or tasks are called {name!r}: case, - and _ make no difference")
        seen[key] = name


def _check_graph(groups: Sequence[Group]) -> None:
    """Inputs come from earlier groups, and every token means something in its place."""
    above: set[str] = set()
    for group in groups:
        names = {task.name for task in group.tasks}
        for task in group.tasks:
            for kind, source in task.inputs:
                if kind == "task" and source in names:
                    _refuse(
                        task.name,
                        f"input {source!r} is in its own group {group.name!r}, which starts together",
                    )
                if kind == "task" and source not in above:
                    _refuse(task.name, f"input {source!r} is not a task of a group before {group.name!r}")
            known = {"workflow_id", "output"} | {f"input:{index}" for index in range(len(task.inputs))}
            known |= {f"input:{source}" for kind, source in task.inputs if kind == "task"}
            if len(names) > 1:
                known |= {f"host:{name}" for name in names}
            for text in _texts(task):
                for token in re.findall(r"{{(.*?)}}", text):
                    if token not in known:
                        _refuse(
                            task.name,
                            f"{{{{{token}}}}} would stay literal text: here are {', '.join(sorted(known))}",
                        )
                if "{{" in re.sub(r"{{.*?}}", "", text):
                    _refuse(task.name, f"{text!r} has a token without an end")
        above |= names


def _texts(task: Task) -> Iterator[str]:
    yield from task.command
    yield from task.args
    yield from task.environment.values()
    yield from task.outputs
    yield from (source for kind, source in task.inputs if kind == "url")


def _refuse(where: str, what: str) -> NoReturn:
    raise UserError(f"{where}: {what}")


def _keys(value: Any, where: str, required: Sequence[str], optional: Sequence[str]) -> None:
    for key in _mapping(value, where):
        if key not in required and key not in optional:
            _refuse(f"{where}.{key}", f"unknown key: OSMO knows {', '.join((*required, *optional))} here")
    for key in required:
        if key not in value:
            _refuse(where, f"{key} is missing")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(where, f"{value!r} is not a mapping")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(where, f"{value!r} is not a list")
    return value


def _text(value: Any, where: str) -> str:
    """A scalar as OSMO turns it to text; it refuses null, lists and mappings."""
    if not isinstance(value, (str, int, float, bool)):
        _refuse(where, f"{value!r} is not text: quote it")
    return str(value)


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value) or len(value) > 64:
        _refuse(where, f"{value!r} is not a name: letters, digits, - and _, a letter first, 64 at most")
    return value


def _url(value: Any, where: str) -> str:
    text = _text(value, where)
    if not URL.fullmatch(text):
        _refuse(where, f"{text!r} is not a URL like azure://ACCOUNT/CONTAINER/PREFIX or s3://BUCKET/PREFIX")
    return text


def add_arguments(parser: argparse.ArgumentParser, file_optional: bool = False) -> None:
    """The workflow file and its parameters, as ``osmo workflow submit`` takes them."""
    parser.add_argument("file", type=Path, nargs="?" if file_optional else None)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE")
    parser.add_argument("--set-string", nargs="+", action="extend", default=[], metavar="NAME=VALUE")


def load(file: Path, casted: Sequence[str], texts: Sequence[str]) -> tuple[str, Workflow]:
    """The rendered text and the checked workflow of a file with parameters NAME=VALUE: those of ``--set``,
    which are cast, and those of ``--set-string``. UserError names the file.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    values: dict[str, Any] = {}
    for pairs, kind in ((casted, cast), (texts, str)):
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                raise UserError(f"{pair!r} is not NAME=VALUE")
            values[name] = kind(value)
    try:
        rendered = render(text, values)
        return rendered, parse(rendered)
    except UserError as error:
        raise UserError(f"{file.name}: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args()
    sys.stdout.write(load(args.file, args.set, args.set_string)[0])


if __name__ == "__main__":
    run_cli(main)
