"""ACT for a UR10e: recordings -> dataset -> train -> checkpoint -> eval -> report.

On a robot's computer, ``from ur10e_act import PolicyRunner`` is all that is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ur10e_act.policy.runner import PolicyRunner

__all__ = ["PolicyRunner"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: torch and lerobot take seconds, and most modules need neither.
    if name == "PolicyRunner":
        from ur10e_act.policy.runner import PolicyRunner

        return PolicyRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
