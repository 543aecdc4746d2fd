"""The rooms of the house, and that the code keeps to them: which imports which, and through which door."""

from __future__ import annotations

import ast
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
