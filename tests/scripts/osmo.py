#!/usr/bin/env python3
"""A stand-in for OSMO's CLI and service: arguments as strict as the real argparse, answers as the real ones.

What it has been told lies in the folder $OSMO_STATE: ``calls`` (one JSON list of arguments a line),
``credentials.json``, ``workflows.json``. ``fail`` there holds one rule a line,
{"command", "status", "stdout"}: the next call that starts with that command ends so, and the rule is used
up. Where there is a file ``follow``, logs end when the workflow does, as the real ones mostly do. It answers
as NVIDIA/OSMO 6.4 did; the tests that use it run against the real CLI, too (OSMO=PATH).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(os.environ["OSMO_PROJECT"])
sys.path.insert(0, str(ROOT / "python"))

from ur10e_act.errors import UserError  # noqa: E402
from ur10e_act.osmo import workflow_spec  # noqa: E402

STATE = Path(os.environ["OSMO_STATE"])
ALIVE = ("PENDING", "RUNNING", "WAITING")
URL = re.compile(r"(azure://[^/]+/[^/]+|s3://[^/]+)(/.*)?")


def read(name: str) -> dict[str, Any]:
    path = STATE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, value: dict[str, Any]) -> None:
    # Another call may read it at the same moment.
    new = STATE / f"{name}.{os.getpid()}"
    new.write_text(json.dumps(value))
    new.replace(STATE / f"{name}.json")


def fail(
    message: str, as_json: bool = False, status: int = 2, code: int = 400, http: bool = True
) -> NoReturn:
    if as_json:
        print(json.dumps({"message": message, "code": code}, indent=2))
    else:
        print(f"Error message: {message}\nError code: {code}")
    if http:
        print("Server responded with status code 400", file=sys.stderr)
    sys.exit(status)


def name_of_credential(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]*", text):
        raise argparse.ArgumentTypeError(f"Invalid name: {text}.")
    return text


def storage_path(text: str) -> str:
    if not URL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"Invalid storage path: {text}")
    return text


def credential_set(args: argparse.Namespace) -> None:
    payload = {}
    for pair in args.payload_file or args.payload:
        key, _, value = pair.partition("=")
        if not key or not value:
            print("Error: Please provide non-empty keys and values.")
            return
        if args.payload_file:
            try:
                value = Path(value).read_text().rstrip("\n")
            except OSError:
                print(f"File {value} cannot be found.")
                return
        payload[key] = value
    credentials = read("credentials")
    profile = None
    if args.type == "DATA":
        missing = {"endpoint", "access_key_id", "access_key"} - set(payload)
        if missing:
            fail(f"Invalid DATA credential: {missing}", code=1)
        if "AccountKey=" not in payload["access_key"]:
            print("Error message: Status Code: 500\nBody:\nConnection string is either blank or malformed.")
            sys.exit(10)
        profile = payload["endpoint"]
    if args.type == "REGISTRY":
        profile = payload["registry"]
    # A second credential for one account or registry takes the place of the first, whatever its name.
    same = [name for name, old in credentials.items() if profile and old["profile"] == profile]
    if args.name in credentials and args.name not in same:
        fail(
            ' duplicate key value violates unique constraint "credential_pkey"\n'
            f"DETAIL:  Key (user_name, cred_name)=(testuser, {args.name}) already exists.\n"
        )
    for name in same:
        del credentials[name]
    credentials[args.name] = {"type": args.type, "profile": profile, "payload": payload}
    write("credentials", credentials)
    print(f"Set {args.type} credential {args.name}.")


def credential_delete(args: argparse.Namespace) -> None:
    credentials = read("credentials")
    if args.name not in credentials:
        fail(f"Credential {args.name} does not exits")
    del credentials[args.name]
    write("credentials", credentials)
    print(f"Deleted credential {args.name}.")


def credential_list(_: argparse.Namespace) -> None:
    rows = [
        {"cred_name": name, "cred_type": entry["type"], "profile": entry["profile"]}
        for name, entry in read("credentials").items()
    ]
    print(json.dumps({"credentials": rows}, indent=2))


def workflow_submit(args: argparse.Namespace) -> None:
    as_json = args.format_type == "json"
    try:
        _, workflow = workflow_spec.load(args.file, args.set, args.set_string)
    except UserError as error:
        fail(f"Workflow submit failed:\n{error}", as_json, status=1, code=1)
    if args.pool not in (None, "default"):
        fail(f"Pool {args.pool} not found.", as_json)
    credentials = read("credentials")
    for group in workflow.groups:
        for task in group.tasks:
            for name in task.credentials:
                if name not in credentials:
                    message = f"Workflow submit failed:\nCould not find the credential: {name}."
                    fail(message, as_json, status=1, code=1)
    workflows = read("workflows")
    workflow_id = f"{workflow.name}-{len(workflows) + 1}"
    workflows[workflow_id] = {"status": "PENDING", "logs": []}
    write("workflows", workflows)
    overview = f"http://127.0.0.1:18000/api/workflow/{workflow_id}"
    if as_json:
        keys = {"name": workflow_id, "overview": overview, "logs": f"{overview}/logs", "spec": None}
        print(json.dumps({**keys, "dashboard_url": None, "warnings": []}, indent=4))
    else:
        print(f"Workflow submit successful.\nWorkflow ID        - {workflow_id}")
        print(f"Workflow Overview  - {overview}")


def known_workflow(args: argparse.Namespace) -> dict[str, Any]:
    workflow = read("workflows").get(args.workflow_id)
    if workflow is None:
        fail(f"Workflow {args.workflow_id} is not found.", getattr(args, "format_type", "") == "json")
    return workflow


def workflow_query(args: argparse.Namespace) -> None:
    workflow = known_workflow(args)
    if args.format_type == "json":
        print(json.dumps({"name": args.workflow_id, "status": workflow["status"], "groups": []}, indent=2))
    else:
        print(f"Workflow ID : {args.workflow_id}\nStatus      : {workflow['status']}")


def workflow_logs(args: argparse.Namespace) -> None:
    workflow = known_workflow(args)
    print(f"Workflow {args.workflow_id} has logs:")
    for line in workflow["logs"]:
        print(f"2026/11/23 16:07:10 {line}", flush=True)
    while (STATE / "follow").exists() and known_workflow(args)["status"] in ALIVE:
        time.sleep(0.1)


def workflow_cancel(args: argparse.Namespace) -> None:
    workflows = read("workflows")
    workflow = workflows.get(args.workflow_id)
    problem = None
    if workflow is None:
        problem = "is not found."
    elif workflow["status"] not in ALIVE:
        problem = "is already finished."
    if problem:
        name = args.workflow_id
        print(f"Workflow cancelation failed for workflow {name}: Workflow {name} {problem}")
        print("Server responded with status code 400", file=sys.stderr)
        return
    workflow["status"] = "FAILED_CANCELED"
    write("workflows", workflows)
    print(f"Cancel job for workflow {args.workflow_id} is submitted!")


def resource_list(args: argparse.Namespace) -> None:
    if args.pool not in (None, ["default"]):
        fail(f"Pool {args.pool[0]} not found.")
    fields = {
        "node": "node-0",
        "pool/platform": ["default/default"],
        "cpu": "128",
        "memory": "1024",
        "gpu": "8",
    }
    print(json.dumps({"resources": [{"hostname": "node-0", "exposed_fields": fields}]}, indent=4))


def data_upload(args: argparse.Namespace) -> None:
    print("Data has been uploaded", file=sys.stderr)
    missing = [path for path in args.local_path if not Path(path).exists()]
    if missing:
        print(f"Upload Failed on files:\n{missing[0]}: cannot be accessed by OSMO, skipping", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="osmo")
    modules = top.add_subparsers(dest="module", required=True)

    credential = modules.add_parser("credential")
    credential.add_argument("--format-type", "-t", choices=("json", "text"), default="text")
    commands = credential.add_subparsers(dest="command", required=True)
    add = commands.add_parser("set")
    add.add_argument("name", type=name_of_credential)
    add.add_argument("--type", choices=("REGISTRY", "DATA", "GENERIC"), default="GENERIC")
    payload = add.add_mutually_exclusive_group(required=True)
    payload.add_argument("--payload", nargs="+")
    payload.add_argument("--payload-file", nargs="+")
    add.set_defaults(run=credential_set)
    delete = commands.add_parser("delete")
    delete.add_argument("name", type=name_of_credential)
    delete.set_defaults(run=credential_delete)
    commands.add_parser("list").set_defaults(run=credential_list)

    commands = modules.add_parser("workflow").add_subparsers(dest="command", required=True)
    submit = commands.add_parser("submit")
    submit.add_argument("file", type=Path)
    submit.add_argument("--format-type", "-t", choices=("json", "text"), default="text")
    submit.add_argument("--set", nargs="+", default=[])
    submit.add_argument("--set-string", nargs="+", default=[])
    submit.add_argument("--pool")
    submit.add_argument("--priority", choices=("HIGH", "NORMAL", "LOW"))
    submit.set_defaults(run=workflow_submit)
    for name, run in (("query", workflow_query), ("logs", workflow_logs), ("cancel", workflow_cancel)):
        command = commands.add_parser(name)
        command.add_argument("workflow_id")
        if name == "query":
            command.add_argument("--format-type", "-t", choices=("json", "text"), default="text")
        command.set_defaults(run=run)

    resources = (
        modules.add_parser("resource").add_subparsers(dest="command", required=True).add_parser("list")
    )
    resources.add_argument("--pool", "-p", nargs="+")
    resources.add_argument("--format-type", "-t", choices=("json", "text"), default="text")
    resources.set_defaults(run=resource_list)

    commands = modules.add_parser("data").add_subparsers(dest="command", required=True)
    upload = commands.add_parser("upload")
    upload.add_argument("remote_uri", type=storage_path)
    upload.add_argument("local_path", nargs="+")
    upload.set_defaults(run=data_upload)
    return top


def demanded_failure() -> None:
    path = STATE / "fail"
    rules = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for index, rule in enumerate(rules):
        if " ".join(sys.argv[1:]).startswith(rule["command"]):
            del rules[index]
            path.write_text("".join(json.dumps(rule) + "\n" for rule in rules))
            print(rule["stdout"])
            sys.exit(rule["status"])


def main() -> None:
    with open(STATE / "calls", "a", encoding="utf-8") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    args = parser().parse_args()
    if (STATE / "logged-out").exists():
        as_json = getattr(args, "format_type", "") == "json"
        fail('Must login first with "login" command', as_json, code=1, http=False)
    demanded_failure()
    args.run(args)


if __name__ == "__main__":
    main()
