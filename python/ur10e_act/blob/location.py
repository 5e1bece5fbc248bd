"""Where data lies in Azure Blob: account, container, prefix."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from ur10e_act.blob.credentials import CONTROL
from ur10e_act.errors import UserError

_PUBLIC_HOST = re.compile(r"([a-z0-9]{3,24})\.blob\.[a-z0-9.-]+")
_CONTAINER = re.compile(r"[a-z0-9$][a-z0-9-]{2,62}")


@dataclass(frozen=True)
class Location:
    """A folder in a container. ``prefix`` has no slash at its ends; empty means the whole container."""

    endpoint: str
    account: str
    container: str
    prefix: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.endpoint, self.container, self.prefix) if part) + "/"

    def url(self, name: str = "") -> str:
        """The URL of the folder, or of ``name`` in it, percent-encoded, since azcopy parses what it is
        given."""
        path = "/".join(part for part in (self.container, self.prefix, name) if part)
        return f"{self.endpoint}/{urllib.parse.quote(path)}"


def parse_location(text: str, environ: Mapping[str, str]) -> Location:
    """CONTAINER/PREFIX, https://HOST/CONTAINER/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX as a Location.

    A whole container must be asked for with a slash (``CONTAINER/``), so that an empty variable downloads no
    terabytes.
    """
    account = environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    endpoint = environ.get("AZURE_STORAGE_BLOB_ENDPOINT", "").rstrip("/")
    if endpoint and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", endpoint):
        raise UserError("AZURE_STORAGE_BLOB_ENDPOINT is not a URL like https://ACCOUNT.blob.core.windows.net")
    named = account
    scheme = re.match(r"(https?|azure)://", text)
    if scheme and "?" in text:
        raise UserError(
            "a URL with a query: put a SAS into AZURE_STORAGE_SAS_TOKEN, and write %3F for a ? in a name"
        )
    if scheme and scheme[1] == "azure":
        named, _, text = text[len("azure://") :].partition("/")
    elif scheme and endpoint and text.startswith(endpoint + "/"):
        text = urllib.parse.unquote(text[len(endpoint) + 1 :])
    elif scheme:
        host, _, path = text[len(scheme[0]) :].partition("/")
        public = _PUBLIC_HOST.fullmatch(host)
        if not public:
            raise UserError(
                f"{host} is not an Azure Blob host: set AZURE_STORAGE_BLOB_ENDPOINT, without the container"
            )
        named, endpoint, text = public[1], scheme[0] + host, urllib.parse.unquote(path)
    if account and named != account:
        raise UserError(
            f"the URL is of account {named}, AZURE_STORAGE_ACCOUNT_NAME is {account}: make them the same"
        )
    if not named and not endpoint:
        raise UserError("AZURE_STORAGE_ACCOUNT_NAME is not set: name the storage account, or give a full URL")
    if not endpoint:
        endpoint = f"https://{named}.blob.core.windows.net"
    container, slash, prefix = text.partition("/")
    if not _CONTAINER.fullmatch(container):
        raise UserError(
            f"{container!r} is not a container name (3 to 63 of a-z, 0-9 and -): write CONTAINER/PREFIX"
        )
    if not slash:
        raise UserError(
            f"no prefix in container {container}: name a folder ({container}/PREFIX; {container}/ is all)"
        )
    segments = [segment for segment in prefix.split("/") if segment]
    if ".." in segments or "." in segments or CONTROL.search(prefix):
        raise UserError(f"prefix {prefix!r} holds '.', '..' or a control character: name the folder as it is")
    return Location(endpoint, named, container, "/".join(segments))


def source_of(environ: Mapping[str, str]) -> str:
    """CONTAINER/PREFIX from the environment. UserError that names the variable that is missing."""
    container = environ.get("AZURE_BLOB_CONTAINER", "")
    prefix = environ.get("AZURE_BLOB_PREFIX", "")
    for name, value in (("AZURE_BLOB_CONTAINER", container), ("AZURE_BLOB_PREFIX", prefix)):
        if not value:
            raise UserError(
                f"{name} is not set: give SOURCE, or set AZURE_BLOB_CONTAINER and AZURE_BLOB_PREFIX"
            )
    return f"{container}/{prefix.lstrip('/')}"
