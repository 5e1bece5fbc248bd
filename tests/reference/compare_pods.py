"""Compare what run_local.py would run with the pods that OSMO's service made of the same file and parameters.

    compare_pods.py WORKFLOW_ID PODS_DIR <PLAN

PODS_DIR is where the service's cluster keeps its pods; PLAN comes from run_local.py --plan.

Commands, variables, credentials, inputs and outputs must be the same, but for hosts and folders. Prints the
differences; 1 where there are any.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any


def value_after(arguments: list[str], name: str) -> list[str]:
    """All that follows ``name`` up to the next option; osmo_exec's and osmo_ctrl's options have one dash."""
    found: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == name:
            found.append(arguments[index + 1])
    return found


def pods(folder: Path) -> dict[str, dict[str, Any]]:
    """Task name -> its pod as run_local.py's plan would put it."""
    tasks = {}
    for path in sorted(folder.glob("*.json")):
        for resource in json.loads(path.read_text()).get("k8s_resources") or []:
            if resource["kind"] != "Pod":
                continue
            user, ctrl = (
                next(c for c in resource["spec"]["containers"] if (c["name"] == "osmo-ctrl") == is_ctrl)
                for is_ctrl in (False, True)
            )
            environment, credentials = {}, {}
            for variable in user["env"]:
                source = variable.get("valueFrom", {}).get("secretKeyRef")
                if source is None:
                    environment[variable["name"]] = variable.get("value", "")
                elif source["name"].endswith("-user-secrets"):
                    name, _, key = source["key"].partition(".")
                    credentials.setdefault(name, {})[variable["name"]] = key
            outputs = [item for item in value_after(ctrl["args"], "-outputs") if item.startswith("url:")]
            inputs = []
            for item in value_after(ctrl["args"], "-inputs"):
                kind, _, rest = item.partition(":")
                url = rest.split(",")[1]
                inputs.append(url.rsplit("/", 1)[1] if kind == "task" else url)
            tasks[user["name"]] = {
                "command": value_after(user["args"], "-commands") + value_after(user["args"], "-args"),
                "environment": environment,
                "credentials": credentials,
                "inputs": inputs,
                "outputs": [item.removeprefix("url:").split(",")[0] for item in outputs],
            }
    return tasks


def main() -> int:
    workflow_id, cluster = sys.argv[1], Path(sys.argv[2])
    plan = json.load(sys.stdin)
    real = pods(cluster / workflow_id)
    differences = []
    if sorted(real) != sorted(task["task"] for task in plan):
        differences.append(f"tasks: {sorted(real)} on OSMO, {[task['task'] for task in plan]} here")
    local_id = workflow_id.rsplit("-", 1)[0] + "-1"
    for task in plan:
        theirs = real.get(task["task"], {})
        environment = {}
        for name, value in task["environment"].items():
            for ours, osmo in (("/input/", "/osmo/data/input/"), ("/output", "/osmo/data/output")):
                head, found, tail = value.partition(f"/{task['task']}/0{ours}")
                if found and "/run-local/" in head:
                    value = osmo + tail
            value = "/tmp" if name == "SCRATCH" else value
            environment[name] = re.sub(rf"\b{local_id}\b", workflow_id, value)
        if "MASTER_ADDR" in environment:
            host = theirs["environment"].get("MASTER_ADDR", "")
            if not host.endswith(".svc.cluster.local"):
                differences.append(f"{task['task']}: MASTER_ADDR is {host!r} on OSMO")
            environment["MASTER_ADDR"] = host
        here = {**task, "environment": environment}
        here["outputs"] = [re.sub(rf"\b{local_id}\b", workflow_id, url) for url in task["outputs"]]
        for key in ("command", "environment", "credentials", "inputs", "outputs"):
            if here[key] != theirs.get(key):
                differences.append(f"{task['task']}: {key}: {theirs.get(key)} on OSMO, {here[key]} here")
    print("\n".join(differences) or f"{len(plan)} tasks are the same")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())
