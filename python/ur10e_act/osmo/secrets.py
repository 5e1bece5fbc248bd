"""Store what secrets.env holds as OSMO credentials, new or in place of older values; see scripts/secrets.sh.

Prints names, never values; these reach osmo through pipes, so that no command line and no file holds them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ur10e_act.errors import UserError, run_cli
from ur10e_act.osmo.cli import Credential, Osmo, say, switched_on

MASKED_FROM = 9  # characters; OSMO leaves shorter values readable in logs
ATTEMPTS = 3
VARIABLES = (
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_BLOB_ENDPOINT",
    "STORAGE_URL",
    "REGISTRY",
    "REGISTRY_USERNAME",
    "REGISTRY_PASSWORD",
    "WANDB_API_KEY",
)


@dataclass(frozen=True)
class Secret:
    """A credential to store. ``payload``: key -> (what the value is called, the value)."""

    name: str
    type: str
    payload: Mapping[str, tuple[str, str]]


def wanted_secrets(environment: Mapping[str, str]) -> list[Secret]:
    """What the variables of secrets.env ask for. UserError for missing, short and malformed values."""
    value = {name: environment.get(name, "") for name in VARIABLES}
    account, key = value["AZURE_STORAGE_ACCOUNT_NAME"], value["AZURE_STORAGE_ACCOUNT_KEY"]
    secrets = []
    if account or key:
        _need(value, "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY")
        _need_maskable(value, "AZURE_STORAGE_ACCOUNT_KEY")
        if not re.fullmatch("[A-Za-z0-9+/]+={0,2}", key):
            raise UserError(
                "AZURE_STORAGE_ACCOUNT_KEY is not an account key (base64): "
                "copy it again from the portal, Access keys"
            )
        payload = {
            "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", account),
            "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", key),
        }
        secrets.append(Secret("azure-storage", "GENERIC", payload))
    storage_url = value["STORAGE_URL"]
    if storage_url.startswith("azure://"):
        _need(value, "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY")
        endpoint = f"azure://{account}"
        if not re.match(f"{re.escape(endpoint)}/.", storage_url):
            raise UserError(
                f"STORAGE_URL={storage_url} is not in the account {account}: OSMO could not write there"
            )
        blob = value["AZURE_STORAGE_BLOB_ENDPOINT"] or f"https://{account}.blob.core.windows.net"
        connection = (
            f"DefaultEndpointsProtocol={blob.partition('://')[0]};AccountName={account};"
            f"AccountKey={key};BlobEndpoint={blob};"
        )
        payload = {
            "endpoint": ("DATA_ENDPOINT", endpoint),
            "access_key_id": ("DATA_KEY_ID", account),
            "access_key": ("CONNECTION_STRING", connection),
        }
        secrets.append(Secret("azure-storage-data", "DATA", payload))
    if value["REGISTRY_USERNAME"] or value["REGISTRY_PASSWORD"]:
        _need(value, "REGISTRY", "REGISTRY_USERNAME", "REGISTRY_PASSWORD")
        _need_maskable(value, "REGISTRY_PASSWORD")
        payload = {
            "registry": ("REGISTRY_HOST", value["REGISTRY"].partition("/")[0]),
            "username": ("REGISTRY_USERNAME", value["REGISTRY_USERNAME"]),
            "auth": ("REGISTRY_PASSWORD", value["REGISTRY_PASSWORD"]),
        }
        secrets.append(Secret("registry", "REGISTRY", payload))
    if value["WANDB_API_KEY"]:
        _need(value, "WANDB_API_KEY")
        _need_maskable(value, "WANDB_API_KEY")
        secrets.append(Secret("wandb", "GENERIC", {"api_key": ("WANDB_API_KEY", value["WANDB_API_KEY"])}))
    if not secrets:
        raise UserError("there is nothing to store: copy secrets.example.env to secrets.env and fill it in")
    return secrets


def _need(value: Mapping[str, str], *names: str) -> None:
    for name in names:
        if not value[name]:
            raise UserError(f"{name} is not set: secrets.env needs all of {' '.join(names)}")
        if re.search(r"\s", value[name]):
            raise UserError(f"{name} has a blank in it: fix it in secrets.env")


def _need_maskable(value: Mapping[str, str], name: str) -> None:
    length = len(value[name])
    if length < MASKED_FROM:
        raise UserError(
            f"{name} has {length} characters: OSMO does not mask values of fewer than {MASKED_FROM} in logs; "
            "take a longer one"
        )


def set_credential(osmo: Osmo, name: str, secret: Secret) -> str:
    """Why OSMO does not take it; empty where it has.

    Success is what the CLI says: it ends with 0 on many errors.
    """
    with ExitStack() as pipes:
        files, descriptors = [], []
        for key, (_, value) in secret.payload.items():
            read, write = os.pipe()
            pipes.callback(os.close, read)
            with open(write, "w", encoding="utf-8") as file:
                file.write(value)
            files.append(f"{key}=/dev/fd/{read}")
            descriptors.append(read)
        command = ["credential", "set", name, "--type", secret.type, "--payload-file", *files]
        answer = osmo.run(*command, pass_fds=descriptors)
    return "" if f"Set {secret.type} credential {name}." in answer.text else answer.says


def delete_credential(osmo: Osmo, name: str) -> str:
    """Why it cannot be deleted; empty where it has been."""
    answer = osmo.run("credential", "delete", name)
    return "" if f"Deleted credential {name}." in answer.text else answer.says


def store(osmo: Osmo, present: Sequence[Credential], secret: Secret) -> bool:
    """Store the secret where ``present`` credentials are; whether one of its name is replaced.

    OSMO replaces a DATA or REGISTRY credential of the same account or host by itself, but no GENERIC one,
    which must be deleted first; whether it takes the new value is tried before.
    """
    name, trial = secret.name, f"{secret.name}-trial"
    for other in present:
        if other.name == name and other.type != secret.type:
            raise UserError(
                f"OSMO has a credential {name} of type {other.type}: "
                f"delete it (osmo credential delete {name})"
            )
    replaces = any(other.name == name for other in present)
    if secret.type != "GENERIC" or not replaces:
        problem = set_credential(osmo, name, secret)
        if not problem:
            return replaces
        if "duplicate key" not in problem:
            raise UserError(f"OSMO refuses {name}, what it had is unchanged: {problem}")
    if secret.type == "GENERIC":
        delete_credential(osmo, trial)
        if problem := set_credential(osmo, trial, secret):
            raise UserError(f"OSMO refuses {name}, what it had is unchanged: {problem}")
        if problem := delete_credential(osmo, trial):
            say(f"{trial} is left behind: {problem}")
    if problem := delete_credential(osmo, name):
        raise UserError(f"{name} cannot be replaced, what OSMO had is unchanged: {problem}")
    for attempt in range(1, ATTEMPTS + 1):
        if not (problem := set_credential(osmo, name, secret)):
            return True
        say(f"{name}, attempt {attempt}: {problem}")
    raise UserError(
        f"{name} is deleted, but OSMO does not take the new value it has just taken on trial: "
        "run make secrets again"
    )


def main() -> None:
    secrets = wanted_secrets(os.environ)
    if switched_on(os.environ, "DRY_RUN"):
        for secret in secrets:
            files = " ".join(f"{key}=<({name})" for key, (name, _) in secret.payload.items())
            print(f"osmo credential set {secret.name} --type {secret.type} --payload-file {files}")
        return
    osmo = Osmo()
    present = osmo.credentials()
    for secret in secrets:
        replaced = store(osmo, present, secret)
        done = "replaced" if replaced else "stored"
        say(f"{done} {secret.name} ({secret.type}: {', '.join(secret.payload)})")


if __name__ == "__main__":
    run_cli(main)
