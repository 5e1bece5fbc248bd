"""Why a recording cannot be converted."""

from __future__ import annotations

from ur10e_act.errors import one_line


class Fault(Exception):
    """A stable ``code`` for machines, as it stands in conversion.json, and a one-line ``message``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, one_line(message)
