"""The rooms of the house, and that the code keeps to them: which imports which, and through which door."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
#: Rooms that hold rooms of their own.
FLOORS = ("gradients", "scripts")
#: What is in these is for all.
OPEN = (
    "batchproof",
    "batchproof.ground",
    "batchproof.report",
    "batchproof.trainers",
    "batchproof.errors",
    "batchproof.version",
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[1:2] and parts[1] in FLOORS else 2])


def imports() -> Iterator[tuple[str, str, list[str]]]:
    """Importer, module, names: those of our own modules."""
    for importer, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "batchproof":
                yield importer, node.module, [alias.name for alias in node.names]


def test_imports_keep_to_the_layers(capsys):
    status = lint_imports(str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_rooms_are_entered_through_their_faces():
    strays = [
        f"{importer}: from {module} import {', '.join(names)}"
        for importer, module, names in imports()
        if room_of(module) not in (room_of(importer), *OPEN)
        # a command imports just what it needs, so that the others start without it
        and room_of(importer) not in ("batchproof.cli", "batchproof.__main__")
        and not (module == room_of(module) and set(names) <= set(getattr(import_module(module), "__all__", ())))
    ]
    assert not strays


# ------------------------------------------------------------------ the page

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_table_of_rooms_says_what_each_knows():
    told = {
        room: set(knows.strip().split(", ")) - {""}
        for room, knows in re.findall(r"^\| `(\w+)` \|.*\| ([\w, ]*) ?\|$", PAGE, re.MULTILINE)
    }
    known: dict[str, set[str]] = {room: set() for room in told}
    for importer, module, _ in imports():
        room, other = top_of(importer), top_of(module)
        if room in known and other in known and room != other:
            known[room].add(other)
    assert told == known


def top_of(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def test_the_names_on_the_page_are_there():
    named = re.findall(r"`([a-z0-9_]+/[a-z0-9_/]+\.py)(?:: (\w+))?`", PAGE)
    assert len(named) > 20
    for file, name in named:
        path = ROOT / file if file.startswith("tests/") else SOURCE / "batchproof" / file
        assert path.is_file(), file
        text = path.read_text(encoding="utf-8")
        assert not name or re.search(rf"^\s*(?:def|class) {name}\b|^{name}\b.*=", text, re.MULTILINE), f"{file}: {name}"


def test_the_page_of_files_is_current():
    told = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "files.py")], capture_output=True, check=True)
    assert told == done.stdout.decode("utf-8"), "python docs/files.py > docs/files.md"


# ------------------------------------------------------------------ names and docstrings


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        overload = "overload" in map(ast.unparse, getattr(node, "decorator_list", ()))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and not overload:
            yield node


def test_no_two_classes_share_a_name():
    homes: dict[str, list[str]] = {}
    for module, tree in modules():
        for node in public(tree):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert not {name: found for name, found in homes.items() if len(found) > 1}


def test_what_rooms_offer_has_a_docstring():
    """Names in a room's face, and all of the rooms that are open to everybody."""
    offered = {(module, name) for _, module, names in faces() for name in names}
    bare = [
        f"{module}.{node.name}"
        for module, tree in modules()
        for node in public(tree)
        if ((module, node.name) in offered or room_of(module) in ("batchproof.ground", "batchproof.report"))
        and not ast.get_docstring(node)
    ]
    assert not bare


def faces() -> Iterator[tuple[str, str, list[str]]]:
    rooms = {module for module, _ in modules() if (SOURCE / module.replace(".", "/") / "__init__.py").is_file()}
    return (found for found in imports() if found[0] in rooms)


def test_docstrings_stand_alone():
    """They are read where a name is used, without the lines above it."""
    leaning = [
        f"{module}.{node.name}: {text}"
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        if re.match(r"The same\b|As `|The inverse\b", text := (ast.get_docstring(node) or "").partition("\n")[0])
    ]
    assert not leaning


# ------------------------------------------------------------------ the tests


def test_each_test_file_can_be_run_alone():
    """A test module of another folder is found only where that folder was collected before."""
    tests = ROOT / "tests"
    homes = {path.stem: path.parent for path in tests.rglob("test_*.py")}
    strays = [
        f"{path.relative_to(tests)}: from {node.module} import"
        for path in sorted(tests.rglob("*.py"))
        if "cases" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and homes.get(node.module or "", path.parent) != path.parent
    ]
    assert not strays
