"""Calling OSMO's command line. Its errors come on stdout, often with status 0: callers look at the text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ur10e_act.errors import UserError, one_line


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def switched_on(environment: Mapping[str, str], name: str) -> bool:
    """Whether a variable such as DRY_RUN is set; 0 counts as not set."""
    return environment.get(name, "") not in ("", "0")


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    def json(self) -> Any:
        """The answer as JSON; ValueError where it is text."""
        return json.loads(self.text)

    @property
    def says(self) -> str:
        """What the CLI has answered, as text or as JSON, in one line without its heading."""
        try:
            text = self.json()["message"]
        except (ValueError, KeyError, TypeError):
            text = self.text
        return one_line(text if text.strip() else f"no answer (status {self.status})").removeprefix(
            "Error message: "
        )


@dataclass(frozen=True)
class Credential:
    """``profile``: the account of a DATA credential, the host of a REGISTRY one."""

    name: str
    type: str
    profile: str | None


class Osmo:
    """The program that OSMO names, else the ``osmo`` on the PATH. UserError where there is none."""

    def __init__(self) -> None:
        self.program = os.environ.get("OSMO") or "osmo"
        if shutil.which(self.program) is None:
            raise UserError(
                f"{self.program} is not there: install OSMO's CLI (github.com/NVIDIA/OSMO, releases) "
                "and run osmo login"
            )

    def run(self, *arguments: str, with_stderr: bool = False, pass_fds: Sequence[int] = ()) -> Answer:
        """What the CLI prints on stdout; ``with_stderr`` adds its notes."""
        done = subprocess.run(
            [self.program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if with_stderr else subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            pass_fds=pass_fds,
            check=False,
        )
        return Answer(done.returncode, done.stdout)

    def credentials(self) -> list[Credential]:
        """UserError where nobody is logged in, or the service is unreachable."""
        answer = self.run("credential", "--format-type", "json", "list")
        if answer.status != 0:
            raise UserError(f"osmo credential list failed: {answer.says}")
        try:
            return [
                Credential(each["cred_name"], each["cred_type"], each["profile"])
                for each in answer.json()["credentials"]
            ]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"osmo credential list answers with what is not a list: {answer.says}") from None

    def most_gpus_of_a_node(self, pool: str) -> int:
        """Of the pool, or of the profile's where ``pool`` is empty."""
        answer = self.run("resource", "list", *(["--pool", pool] if pool else []), "--format-type", "json")
        if answer.status != 0:
            raise UserError(f"osmo resource list failed: {answer.says}")
        try:
            nodes = answer.json()["resources"]
            return max((int(node["exposed_fields"].get("gpu") or 0) for node in nodes), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"osmo resource list answers with what is not a list: {answer.says}") from None
