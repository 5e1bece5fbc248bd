"""Blobs for the tests over REST, with names and faults that azcopy would not upload.

    blob.py container NAME
    blob.py put CONTAINER NAME CONTENT [none | MD5 in base64]    MD5: the right one, none, or the given one
    blob.py tree CONTAINER FOLDER [PREFIX]                       every file of FOLDER
    blob.py delete CONTAINER NAME
    blob.py list CONTAINER                                       the names of all blobs
    blob.py sas CONTAINER PERMISSIONS [seconds from now to expiry]

AZURE_STORAGE_BLOB_ENDPOINT, AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY say where and who.
"""

import base64
import datetime
import hashlib
import hmac
import os
import re
import sys
import urllib.parse
import urllib.request

ENDPOINT = os.environ["AZURE_STORAGE_BLOB_ENDPOINT"]
ACCOUNT = os.environ["AZURE_STORAGE_ACCOUNT_NAME"]
KEY = base64.b64decode(os.environ["AZURE_STORAGE_ACCOUNT_KEY"])


def sign(text: str) -> str:
    return base64.b64encode(hmac.new(KEY, text.encode(), hashlib.sha256).digest()).decode()


def request(method: str, path: str, query: str = "", body: bytes = b"", headers: dict | None = None) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    own = {"x-ms-date": now, "x-ms-version": "2021-12-02", **(headers or {})}
    url = f"{ENDPOINT}/{urllib.parse.quote(path)}"
    resource = f"/{ACCOUNT}{urllib.parse.urlsplit(url).path}"
    resource += "".join("\n" + pair.replace("=", ":") for pair in sorted(filter(None, query.split("&"))))
    canonical = "".join(f"{name}:{own[name]}\n" for name in sorted(own))
    length = str(len(body)) if body else ""
    text = f"{method}\n\n\n{length}\n\napplication/octet-stream\n\n\n\n\n\n\n{canonical}{resource}"
    own.update(
        {"Authorization": f"SharedKey {ACCOUNT}:{sign(text)}", "Content-Type": "application/octet-stream"}
    )
    data = body if method == "PUT" else None
    full = url + ("?" + query if query else "")
    with urllib.request.urlopen(urllib.request.Request(full, data, own, method=method)) as answer:
        return answer.read()


def put(container: str, name: str, content: bytes, md5: str = "") -> None:
    headers = {"x-ms-blob-type": "BlockBlob"}
    if md5 == "none":
        # Azurite makes an MD5 for every blob of one request, and none for one made of blocks.
        block = base64.b64encode(b"000").decode()
        request("PUT", f"{container}/{name}", f"blockid={block}&comp=block", content)
        body = f"<BlockList><Latest>{block}</Latest></BlockList>".encode()
        request("PUT", f"{container}/{name}", "comp=blocklist", body)
        return
    headers["x-ms-blob-content-md5"] = md5 or base64.b64encode(hashlib.md5(content).digest()).decode()
    request("PUT", f"{container}/{name}", "", content, headers)


def sas(container: str, permissions: str, seconds: str = "3600") -> str:
    expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=int(seconds))
    fields = {"sp": permissions, "se": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"), "sv": "2022-11-02", "sr": "c"}
    text = "\n".join(
        [
            permissions,
            "",
            fields["se"],
            f"/blob/{ACCOUNT}/{container}",
            "",
            "",
            "",
            fields["sv"],
            "c",
            *[""] * 7,
        ]
    )
    return urllib.parse.urlencode({**fields, "sig": sign(text)})


command, *arguments = sys.argv[1:]
if command == "container":
    request("PUT", arguments[0], "restype=container")
elif command == "put":
    put(arguments[0], arguments[1], arguments[2].encode(), *arguments[3:])
elif command == "tree":
    for folder, _, names in os.walk(arguments[1]):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                put(arguments[0], "".join(arguments[2:]) + os.path.relpath(path, arguments[1]), file.read())
elif command == "delete":
    request("DELETE", f"{arguments[0]}/{arguments[1]}")
elif command == "list":
    print(
        "\n".join(
            re.findall(
                "<Name>(.*?)</Name>", request("GET", arguments[0], "restype=container&comp=list").decode()
            )
        )
    )
elif command == "sas":
    print(sas(*arguments))
else:
    sys.exit(f"unknown: {command}")
