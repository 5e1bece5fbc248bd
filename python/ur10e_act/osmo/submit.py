"""Check a workflow and everything it needs, then submit it to OSMO; see the usage of scripts/submit.sh.

Prints the workflow's ID on stdout, everything else on stderr.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ur10e_act.errors import UserError, run_cli
from ur10e_act.osmo import workflow, workflow_spec
from ur10e_act.osmo.cli import Answer, Osmo, say, switched_on
from ur10e_act.osmo.parameters import WorkflowParameters

ATTEMPTS = 3


def check_nodes(osmo: Osmo, parameters: WorkflowParameters, pool: str) -> None:
    """OSMO accepts more GPUs for one task than any node has, and would wait for ever."""
    most = osmo.most_gpus_of_a_node(pool)
    if parameters.gpus_per_node > most:
        of_pool = f" of pool {pool}" if pool else ""
        raise UserError(
            f"GPUS_PER_NODE={parameters.gpus_per_node}, but no node{of_pool} has more than {most} GPUs"
        )


def check_credentials(osmo: Osmo, parameters: WorkflowParameters) -> None:
    credentials = osmo.credentials()
    generic = {each.name for each in credentials if each.type == "GENERIC"}
    accounts = {each.profile for each in credentials if each.type == "DATA"}
    hint = "store it with make secrets"
    if parameters.azure and "azure-storage" not in generic:
        raise UserError(f"OSMO has no credential azure-storage: {hint}")
    if parameters.wandb and "wandb" not in generic:
        raise UserError(f"OSMO has no credential wandb: set WANDB_API_KEY and {hint}")
    if parameters.workflow == "convert":
        return
    for url in (parameters.storage_url, parameters.data_url):
        account = re.match("azure://[^/]+", url)
        if account and account[0] not in accounts:
            raise UserError(
                f"OSMO has no DATA credential for {account[0]}, which {url} needs: set STORAGE_URL and {hint}"
            )


def upload(osmo: Osmo, folder: str, data_url: str) -> None:
    """OSMO's upload puts the folder under the URL with its own name, which ``data_url`` ends with."""
    say(f"uploading {folder} to {data_url} ...")
    answer = osmo.run(
        "data", "upload", data_url.rpartition("/")[0], str(Path(folder).resolve()), with_stderr=True
    )
    if answer.status != 0:
        raise UserError(f"osmo data upload failed: {answer.says}")
    if "Upload Failed" in answer.text or "Data has been uploaded" not in answer.text:
        reason = Answer(0, answer.text.rpartition("Upload Failed on files:")[2]).says
        raise UserError(f"osmo data upload has not sent everything: {reason}")


def send(osmo: Osmo, parameters: WorkflowParameters, pool: str, priority: str) -> tuple[str, str]:
    """Submit, and return the workflow's ID and the address of its overview, which may be empty."""
    options = [*(["--pool", pool] if pool else []), *(["--priority", priority] if priority else [])]
    numbers, texts = parameters.template_parameters()
    # The file goes first: --set takes all that follows.
    command = [
        "workflow",
        "submit",
        str(parameters.file),
        *options,
        "--set",
        *numbers,
        "--set-string",
        *texts,
    ]
    for _ in range(ATTEMPTS):
        answer = osmo.run(*command, "--format-type", "json")
        # Seen when two submits of one name meet; nothing has been submitted then.
        if "connection pool is closed" not in answer.text:
            break
    try:
        submitted = answer.json()
        return submitted["name"], submitted.get("overview") or ""
    except (ValueError, KeyError, TypeError):
        raise UserError(f"OSMO refuses the workflow (status {answer.status}): {answer.says}") from None


def main() -> int:
    pool, priority = os.environ.get("POOL", ""), os.environ.get("PRIORITY", "")
    if priority not in ("", "HIGH", "NORMAL", "LOW"):
        raise UserError(f"PRIORITY={priority}: HIGH, NORMAL or LOW")
    localpath, storage_url = os.environ.get("LOCALPATH", ""), os.environ.get("STORAGE_URL", "")
    data_url = ""
    if localpath and storage_url:
        data_url = f"{storage_url.rstrip('/')}/data/{Path(localpath).resolve().name}"
    parameters = WorkflowParameters.from_environment(os.environ, data_url)
    if not parameters.azure and not data_url:
        raise UserError(
            "STORAGE_URL is not set: LOCALPATH has to be uploaded to where OSMO can read it (secrets.env)"
        )
    numbers, texts = parameters.template_parameters()
    rendered, _ = workflow_spec.load(parameters.file, numbers, texts)
    if switched_on(os.environ, "DRY_RUN"):
        print(rendered)
        return 0

    osmo = Osmo()
    check_credentials(osmo, parameters)
    converts = parameters.workflow == "convert"
    if not converts:
        check_nodes(osmo, parameters, pool)
    if not parameters.azure:
        upload(osmo, localpath, data_url)
    if converts:
        say(f"the dataset: {parameters.dataset}")
    elif not parameters.storage_url:
        say(
            "STORAGE_URL is not set: results stay in OSMO's own storage, "
            "and a training that is preempted starts from nothing"
        )
    elif not parameters.azure:
        say(
            "without the Azure key no checkpoints are published: "
            "a training that is preempted starts from nothing"
        )

    workflow_id, overview = send(osmo, parameters, pool, priority)
    say(f"submitted {workflow_id}" + (f": {overview}" if overview else ""))
    say(f"  make logs ID={workflow_id}     make status ID={workflow_id}     make cancel ID={workflow_id}")
    if parameters.storage_url and not converts:
        results = f"{parameters.storage_url}/{workflow_id}"
        say(f"  results: {results}/")
        if parameters.azure:
            say(f"  after a stop: make submit-{parameters.workflow} RESUME_FROM={results}/checkpoints")
    print(workflow_id, flush=True)
    return workflow.watch(osmo, workflow_id) if switched_on(os.environ, "WATCH") else 0


if __name__ == "__main__":
    run_cli(main)
