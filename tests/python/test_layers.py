"""Imports in python/ur10e_act go one way: along the data, from recordings to evaluation, and in no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

PYTHON = ROOT / "python"
# Beside its own modules, a room may import those at the top of the package, and these rooms.
ROOMS = {
    "recordings": {"dataset"},
    "dataset": set(),
    "policy": {"dataset"},
    "training": {"policy", "dataset"},
    "evaluation": {"policy", "dataset"},
    "blob": set(),
    "osmo": set(),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PYTHON).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, modules: set[str]) -> set[str]:
    """The package's modules that ``path`` imports, also inside functions, but not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name, as from ur10e_act.ROOM.MODULE"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules or {node.module or ""}
    return {name for name in found if name.partition(".")[0] == "ur10e_act"}


def graph() -> dict[str, set[str]]:
    paths = sorted((PYTHON / "ur10e_act").rglob("*.py"))
    modules = {module_name(path) for path in paths}
    return {module_name(path): imported(path, modules) for path in paths}


def room(module: str) -> str:
    """ "policy" for ur10e_act.policy.act, "" for ur10e_act.config and the like."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in ROOMS else ""


def test_rooms_import_only_what_lies_before_them() -> None:
    modules = graph()
    assert set(ROOMS) == {room(name) for name in modules} - {""}
    wrong = [
        f"{name} imports {other}"
        for name, others in modules.items()
        # What ``from ur10e_act import PolicyRunner`` loads when it is asked for.
        if name != "ur10e_act"
        for other in others
        if room(other) not in {"", room(name), *ROOMS.get(room(name), set())}
    ]
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    modules = {name: others - {"ur10e_act"} for name, others in graph().items() if name != "ur10e_act"}
    tuple(TopologicalSorter(modules).static_order())


def test_the_library_imports_no_command() -> None:
    commands = {path.stem for path in PYTHON.glob("*.py")}
    assert commands == {"train", "offline_eval", "rosbag_to_lerobot", "report"}
    for path in (PYTHON / "ur10e_act").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in commands, path
