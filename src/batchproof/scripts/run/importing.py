"""Rewrite the modules that a script imports from its own folder, and tell when torch's parts are imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

#: Gives code for a file's source, or None where there is nothing in it to measure.
Rewrite = Callable[[bytes, str, dict[str, Any]], CodeType | None]
_FOREIGN = ("site-packages", "dist-packages")


class RewritingLoader(importlib.machinery.SourceFileLoader):
    """Runs a module from rewritten code, and from Python's own where there is nothing to measure."""

    rewrite: Rewrite

    def get_code(self, fullname: str) -> CodeType | None:
        """What it runs as it is imported: a frame of ours in between would stand in every traceback of it."""
        module = sys.modules.get(fullname)
        path = self.get_filename(fullname)
        code = self.rewrite(self.get_data(path), path, vars(module)) if module is not None else None
        return code if code is not None else super().get_code(fullname)


class Finder(importlib.abc.MetaPathFinder):
    """Finds modules below a folder before Python does, and leaves all others to it."""

    def __init__(self, folder: Path, rewrite: Rewrite, after: dict[str, Callable[[ModuleType], None]]) -> None:
        self.folder = folder
        self.rewrite = rewrite
        self.after = after

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's, with our loader."""
        if name in self.after:
            return _followed(_spec(name, path), self.after.pop(name))
        if name.partition(".")[0] in ("torch", "numpy", "batchproof"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        if not self._is_own(Path(spec.origin)):
            return None
        loader = RewritingLoader(name, spec.origin)
        loader.rewrite = self.rewrite
        spec.loader = loader
        return spec

    def _is_own(self, file: Path) -> bool:
        """Whether it belongs to the script: below its folder, and neither installed nor a part of an environment."""
        file = file.resolve()
        if not file.is_relative_to(self.folder) or any(part in _FOREIGN for part in file.parts):
            return False
        return not (
            Path(sys.prefix) != self.folder
            and file.is_relative_to(sys.prefix)
            and self.folder in Path(sys.prefix).parents
        )


def _spec(name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    return importlib.machinery.PathFinder.find_spec(name, path)


def _followed(
    spec: importlib.machinery.ModuleSpec | None, then: Callable[[ModuleType], None]
) -> importlib.machinery.ModuleSpec | None:
    """A spec whose module, once it has run, is handed over."""
    if spec is None or spec.loader is None:
        return spec
    loader: Any = spec.loader
    own = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        own(module)
        then(module)

    loader.exec_module = exec_module
    return spec
