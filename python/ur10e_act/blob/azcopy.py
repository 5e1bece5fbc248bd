"""Azure Blob through azcopy: the one way to start it.

azcopy ends with status 0 on many failures, waits for hours on a dead server and keeps the reason of a failure
in its log. So nothing here trusts its exit status alone: callers compare with a listing, a transfer without
progress is ended, and errors carry the reason from the log. Tested with azcopy 10.32.2; the account key goes
through AZCOPY_CRED_TYPE, which azcopy does not document.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ur10e_act.blob.credentials import SECRETS, Credentials, redact
from ur10e_act.blob.location import Location
from ur10e_act.errors import TryAgain, UserError
from ur10e_act.process import die_with

KILL_AFTER_S = 5.0  # azcopy ends by itself in 2.3 s, but ignores signals while it reads the listing
LOG_EVERY_S = 30.0
PINNED = Path(__file__).resolve().parents[3] / "tests/node_modules/@azure-tools/azcopy-linux/dist/bin"

_TRANSIENT = re.compile(
    r"connection refused|connection reset|broken pipe|timeout|timed out|deadline|no such host"
    r"|network is unreachable|EOF|TLS handshake|\b(408|429|50[0-4])\b"
    r"|ServerBusy|InternalError|OperationTimedOut"
)
_REMEDIES = (
    (r"AuthenticationFailed|AuthorizationFailure|InvalidAuthenticationInfo|NoAuthenticationInformation",
     "check the account's name and key, or the SAS: its expiry and container"),
    (r"AuthorizationPermissionMismatch|AuthorizationPermission|InsufficientAccountPermissions",
     "the login or SAS lacks a permission: reading needs r and l, publishing r, a, c, w and l"),
    (r"\b403\b", "check the key or the SAS: it may have expired meanwhile"),
    (r"ContainerNotFound|ContainerBeingDeleted", "check AZURE_BLOB_CONTAINER"),
    (r"no space left|disk quota", "free space on that disk or choose another"),
    (r"no such host", "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_BLOB_ENDPOINT"),
    (r"libsecret", "apt-get install libsecret-1-0"),
)  # fmt: skip


def find_program(environ: Mapping[str, str]) -> str:
    """The azcopy to run: AZCOPY, else the one on the PATH, else the one that ``scripts/setup.sh azcopy``
    downloaded."""
    named = environ.get("AZCOPY", "")
    if named:
        found = shutil.which(named)
        if not found:
            raise UserError(f"AZCOPY={named} is not a program: name azcopy's path")
        return found
    found = shutil.which("azcopy") or shutil.which(str(PINNED / "azcopy_linux_amd64"))
    if not found:
        raise UserError("no azcopy on the PATH: run scripts/setup.sh azcopy, or name one with AZCOPY=PATH")
    return found


def stall_timeout_s(environ: Mapping[str, str]) -> float:
    """STALL_SECONDS, at least 60: azcopy's own waits between tries grow to 60 s. Tests lower
    STALL_SECONDS_MINIMUM."""
    text = environ.get("STALL_SECONDS") or "300"
    minimum = float(environ.get("STALL_SECONDS_MINIMUM") or "60")
    if not re.fullmatch(r"[0-9]+", text) or float(text) < minimum:
        raise UserError(f"STALL_SECONDS={text}: a whole number of seconds, at least {minimum:.0f}")
    return float(text)


@dataclass
class Blob:
    """One listed blob: its name below the prefix, bytes, MD5 (32 hex digits or None), time of its last
    change."""

    name: str
    bytes: int
    md5: str | None
    modified: str


@dataclass
class Azcopy:
    """azcopy for one location. ``keep_open`` are file descriptors that it inherits, so that a lock lives as
    long as it.

    Use as a context manager: logs, plans and the links that stand for local folders live in a private folder.
    """

    location: Location
    credentials: Credentials
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    keep_open: Sequence[int] = ()

    def __enter__(self) -> Azcopy:
        self.program = find_program(self.environ)
        self.stall_s = stall_timeout_s(self.environ)
        self._work = tempfile.TemporaryDirectory(prefix="azcopy-", ignore_cleanup_errors=True)
        self.work = Path(self._work.name)
        self._env = {name: value for name, value in self.environ.items() if name not in SECRETS}
        self._env.update(
            AZCOPY_LOG_LOCATION=str(self.work / "log"),
            AZCOPY_JOB_PLAN_LOCATION=str(self.work / "plan"),
            AZCOPY_DISABLE_SYSLOG="true",
            # One listing request for 5,000 blobs, not one for each folder.
            AZCOPY_DISABLE_HIERARCHICAL_SCAN="true",
        )
        self._query = ""
        if self.credentials.kind == "sas":
            # azcopy takes a SAS nowhere but in its arguments.
            self._query = "?" + self.environ["AZURE_STORAGE_SAS_TOKEN"].lstrip("?")
        elif self.credentials.kind == "key":
            if not self.location.account:
                raise UserError("AZURE_STORAGE_ACCOUNT_NAME is not set: the account key needs it")
            self._env.update(
                AZCOPY_CRED_TYPE="SharedKey",
                ACCOUNT_NAME=self.location.account,
                ACCOUNT_KEY=self.environ["AZURE_STORAGE_ACCOUNT_KEY"],
            )
        self._suffix: list[str] = []
        if self.environ.get("AZURE_STORAGE_BLOB_ENDPOINT") and self.credentials.kind != "sas":
            # azcopy signs only for hosts that it knows or is told of; this one the user has named.
            self._suffix = [
                "--trusted-microsoft-suffixes",
                urllib.parse.urlsplit(self.location.endpoint).netloc,
            ]
        return self

    def __exit__(self, *_: object) -> None:
        self._work.cleanup()

    def list(self) -> list[Blob]:
        """Every blob below the prefix; an empty list where there is none. UserError when the listing
        fails."""
        blobs: list[Blob] = []
        summary: dict[str, str] = {}

        def note(kind: str, content: dict) -> None:
            if kind == "ListObject":
                md5 = content.get("ContentMD5")
                blobs.append(
                    Blob(
                        content.get("Path", "").strip("\0"),  # NUL: a marker of the listed folder itself
                        int(content.get("ContentLength", 0)),
                        base64.b64decode(md5).hex() if md5 else None,
                        content.get("LastModifiedTime", ""),
                    )
                )
            elif kind == "ListSummary":
                summary.update(content)

        folder = self.location.url() + "/" + self._query
        properties = "ContentMD5;LastModifiedTime"
        status = self._run(
            [
                "list",
                folder,
                "--location=Blob",
                "--machine-readable",
                "--running-tally",
                "--properties",
                properties,
            ],
            note,
        )
        if status != 0:
            raise self._failure(f"cannot list {self.location}")
        if int(summary.get("FileCount", -1)) != len(blobs):
            raise TryAgain(f"azcopy's listing of {self.location} is cut off: run it again")
        return blobs

    def copy(
        self, source: str, destination: str, *options: str, progress: Callable[[dict], None] | None = None
    ) -> int:
        """``azcopy copy`` with the SAS added to what is a URL; its exit status, which says little when it is
        0."""

        def note(kind: str, content: dict) -> None:
            if kind == "Progress" and progress:
                progress(content)

        ends = [end + self._query if "://" in end else end for end in (source, destination)]
        return self._run(["copy", *ends, *options], note)

    def remove(self, names: Path) -> int:
        """``azcopy remove`` of the blobs that the file ``names`` lists, one a line; its exit status."""
        options = ["--recursive", "--from-to=BlobTrash", "--list-of-files", str(names)]
        return self._run(["remove", self.location.url() + self._query, *options], lambda *_: None)

    def link(self, name: str, target: Path) -> str:
        """A path to the folder ``target`` that azcopy can read: it takes % and * in a local path for
        syntax."""
        path = self.work / name
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        return str(path)

    def failure(self, what: str) -> UserError:
        """The error for the run just ended: ``what``, azcopy's reason and what to do."""
        return self._failure(what)

    def _run(self, arguments: Sequence[str], note: Callable[[str, dict], None]) -> int:
        shutil.rmtree(self.work / "log", ignore_errors=True)
        self._output: list[str] = []
        command = [self.program, *arguments, "--output-type=json", "--log-level=WARNING", *self._suffix]
        process = _start(command, self._env, self.keep_open)
        try:
            for line in self._lines(process):
                kind, content = _message(line)
                if kind in ("", "Error"):
                    self._output.append(str(content.get("text", "")))
                note(kind, content)
            return process.wait()
        finally:
            _end(process)

    def _lines(self, process: subprocess.Popen) -> Iterator[bytes]:
        """azcopy's lines as they come; TryAgain when nothing moves for ``stall_s`` seconds."""
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        rest = b""
        state: object = None
        moved = time.monotonic()
        while True:
            left = moved + self.stall_s - time.monotonic()
            if left <= 0:
                _end(process)
                reason = self._reason()
                raise TryAgain(
                    f"no progress for {self.stall_s:.0f} s (STALL_SECONDS), azcopy was ended"
                    + (f"; the last it said: {reason}" if reason else "")
                    + ": run it again when the server answers"
                )
            if not select.select([descriptor], [], [], left)[0]:
                continue
            data = os.read(descriptor, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                kind, content = _message(line)
                # azcopy repeats its progress every 2 s also when there is none.
                new = tuple(content.get(key) for key in _MOVES) if kind == "Progress" else object()
                if new != state:
                    state, moved = new, time.monotonic()
                yield line

    def _reason(self) -> str:
        """Why azcopy failed, in one line; empty when it did not say."""
        for text in self._output:
            code = re.search(r"ERROR CODE: (\w+)", text)
            answer = re.search(r"RESPONSE (\d+): (?:\d+ )?(.*)", text)
            if answer:
                return f"{answer[1]} {code[1] + ': ' if code else ''}{answer[2].strip()}"
        log = "".join(path.read_text(errors="replace") for path in sorted(self.work.glob("log/*.log")))
        failed = re.findall(r"(?:DOWNLOAD|UPLOAD|COPY)FAILED: (.*?) : (\d+) : (.*)", log)
        if failed:
            source, number, text = failed[0]
            name = urllib.parse.unquote(urllib.parse.urlsplit(source).path)
            status = "" if number == "000" else number + " "
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            text = text.partition(" X-Ms-Request-Id")[0].removeprefix(status).strip()
            return f"{name}: {status}{text}{more}"
        tries = re.findall(
            r'^(?:Get|Head|Put|Post) "[^"\n]*": (.*)$|^(Response Details: .*)$', log, re.MULTILINE
        )
        if tries:
            error, details = tries[-1]
            return error or " ".join(re.sub(r"<[^>]*>", " ", details).split()) + " (an error from the server)"
        return " ".join(next((text for text in self._output if text.strip()), "").split())[:400]

    def _failure(self, what: str) -> UserError:
        reason = redact(self._reason(), self.environ) or "azcopy gave no reason"
        remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, reason)), "")
        kind = TryAgain if _TRANSIENT.search(reason) and not re.search(r"no such host", reason) else UserError
        if not remedy:
            remedy = "run it again" if kind is TryAgain else "fix that and run it again"
        return kind(f"{what}: {reason}: {remedy}")


_MOVES = (
    "JobStatus",
    "TotalTransfers",
    "TransfersCompleted",
    "TransfersFailed",
    "TransfersSkipped",
    "BytesOverWire",
)


def _message(line: bytes) -> tuple[str, dict]:
    """The kind and content of one line of azcopy; kind is empty for a line that is not JSON, like a panic."""
    text = line.decode(errors="replace")
    try:
        message = json.loads(text)
        kind, content = message["MessageType"], message["MessageContent"]
    except (ValueError, KeyError, TypeError):
        return "", {"text": text}
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    return kind, parsed if isinstance(parsed, dict) else {"text": content}


def _start(command: Sequence[str], env: Mapping[str, str], keep_open: Sequence[int]) -> subprocess.Popen:
    parent = os.getpid()
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(env),
        pass_fds=tuple(keep_open),
        start_new_session=True,  # Ctrl-C reaches us, and through us azcopy, once
        preexec_fn=lambda: die_with(parent),  # no azcopy continues writing when we are killed
    )


def _end(process: subprocess.Popen) -> None:
    """Ask azcopy to end, then make it end; nothing when it has."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()


class Progress:
    """A line that renews itself on a terminal, a line every 30 s elsewhere, both on stderr."""

    def __init__(self, what: str):
        self.what = what
        self.tty = sys.stderr.isatty()
        self.next = time.monotonic() + (0 if self.tty else LOG_EVERY_S)

    def show(self, files: int, of_files: int, done: int, of_bytes: int) -> None:
        """``files`` and ``done`` bytes are there of ``of_files`` and ``of_bytes``."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + (0.5 if self.tty else LOG_EVERY_S)
        percent = 100 * done // of_bytes if of_bytes else 0
        text = f"  {self.what}: {percent} %, {files:,} of {of_files:,} files"
        text += f", {done / 1e6:,.0f} of {of_bytes / 1e6:,.0f} MB"
        print(
            f"\r\033[K{text}" if self.tty else text, end="" if self.tty else "\n", file=sys.stderr, flush=True
        )

    def close(self) -> None:
        if self.tty:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
