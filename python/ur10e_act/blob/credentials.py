"""How to log in to Azure Blob, and keeping secrets out of what is printed."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ur10e_act.errors import UserError

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SECRETS = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "ACCOUNT_KEY",
    "ACCOUNT_NAME",
    "AZCOPY_CRED_TYPE",
)


def redact(text: str, environ: Mapping[str, str]) -> str:
    """``text`` without signatures, and without any secret of the environment."""
    text = re.sub(r"(?i)(sig(?:=|%3d))[^&\s\"'<>]+", r"\1-REDACTED-", text)
    for name in SECRETS[:3]:
        secret = environ.get(name, "")
        if len(secret) >= 8:
            text = text.replace(secret, "-REDACTED-")
    return text


@dataclass(frozen=True)
class Credentials:
    """``kind`` is sas, key or login; ``why`` says which variable decided."""

    kind: str
    why: str


def find_credentials(environ: Mapping[str, str]) -> Credentials | None:
    """A SAS before the account key before azcopy's own login; None when none of them is set."""
    sas = environ.get("AZURE_STORAGE_SAS_TOKEN", "")
    if sas:
        if "sig=" not in sas or CONTROL.search(sas) or " " in sas:
            raise UserError(
                "AZURE_STORAGE_SAS_TOKEN is not a SAS token: it looks like sv=...&sig=... on one line"
            )
        return Credentials("sas", "AZURE_STORAGE_SAS_TOKEN is set")
    key = environ.get("AZURE_STORAGE_ACCOUNT_KEY", "")
    if key:
        try:
            base64.b64decode(key, validate=True)
        except binascii.Error:
            raise UserError("AZURE_STORAGE_ACCOUNT_KEY is not base64: copy the key again") from None
        return Credentials("key", "AZURE_STORAGE_ACCOUNT_KEY is set")
    if environ.get("AZCOPY_AUTO_LOGIN_TYPE", ""):
        return Credentials("login", f"AZCOPY_AUTO_LOGIN_TYPE is {environ['AZCOPY_AUTO_LOGIN_TYPE']}")
    return None
