"""Run a script or a module as the real ``__main__``, as ``python`` would, from a tree that was rewritten.

Everything that a script can see of how it was started is as it is without us: ``__main__``, ``__file__``, ``__spec__``,
``sys.argv``, ``sys.path[0]``; its exit status and its tracebacks are its own.  Modules that it imports from its own
folder are rewritten too.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.text import error_line

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Target:
    """What is to be run.

    Attributes:
        typed: as it was typed.
        path: its file.
        spec: the module's, for ``-m``; None for a script.
        arguments: what follows it.
    """

    typed: str
    path: Path
    spec: importlib.machinery.ModuleSpec | None
    arguments: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its own modules lie: that of the script, or the one that holds the package."""
        if self.spec is None:
            return self.path.resolve().parent
        depth = self.spec.name.count(".") + 1
        return self.path.resolve().parents[depth - 1]


def script(typed: str, arguments: Sequence[str]) -> Target:
    """A file.

    Raises:
        BatchproofError: it is none that Python can run.
    """
    path = Path(typed)
    if path.is_dir() and (path / "__main__.py").is_file():
        path = path / "__main__.py"
    if path.is_dir():
        raise BatchproofError(f"{typed} is a directory without a __main__.py; name a script in it")
    if not path.is_file():
        raise BatchproofError(f"there is no file {typed}{_near(path)}")
    if path.suffix in (".ipynb", ".sh", ".yaml", ".yml", ".json", ".toml", ".md"):
        raise BatchproofError(f"{typed} is not a Python script{_hint(path)}")
    return Target(typed, path, None, tuple(arguments))


def module(name: str, arguments: Sequence[str]) -> Target:
    """A module, as ``python -m`` finds it.

    Raises:
        BatchproofError: there is none, or it is a package that cannot be run.
    """
    sys.path[0] = str(Path.cwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            package, spec = name, importlib.util.find_spec(f"{name}.__main__")
            if spec is None:
                raise BatchproofError(f"{package} is a package without a __main__ module, and cannot be run")
    except (ImportError, ValueError) as error:
        raise BatchproofError(f"there is no module {name} ({error})") from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise BatchproofError(f"there is no module {name}")
    return Target(name, Path(spec.origin), spec, tuple(arguments))


@dataclass
class Ending:
    """How a script came to its end.

    Attributes:
        status: its exit status.
        failed: the last line of its error; empty where it had none.
        interrupted: whether it ended by Ctrl-C that it did not catch.
    """

    status: int = 0
    failed: str = ""
    interrupted: bool = False


def read(target: Target) -> bytes:
    """Its source.

    Raises:
        BatchproofError: it cannot be read.
    """
    try:
        return target.path.read_bytes()
    except OSError as error:
        raise BatchproofError(f"cannot read {target.path}: {error.strerror or error}") from error


def compiled(source: bytes, file: str) -> CodeType:
    """The code, as Python makes it.

    Raises:
        BatchproofError: it is not Python, with the line.
    """
    try:
        return compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f"\n       {(error.text or '').strip()}" if error.text else ""
        where = file if error.lineno is None else f"{file}:{error.lineno}"
        raise BatchproofError(f"{where}: {error.msg}{line}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise BatchproofError(f"{file} is not a Python script ({error})") from error


def path_of(typed: str, arguments: Sequence[str]) -> Path | None:
    """The file of a script that Python can read.

    Raises:
        BatchproofError: there is none, or it is not Python.
    """
    found = script(typed, arguments)
    compiled(read(found), typed)
    return found.path


def run(target: Target, code: CodeType, names: ModuleType) -> Ending:
    """Run the code as ``__main__``."""
    sys.modules["__main__"] = names
    sys.argv = [str(target.typed if target.spec is None else target.path), *target.arguments]
    if target.spec is None:
        sys.path[0] = str(target.folder)
    ending = Ending()
    try:
        exec(code, names.__dict__)
    except SystemExit as error:
        ending.status = _status(error)
    except KeyboardInterrupt as error:
        ending.status, ending.failed, ending.interrupted = 130, "KeyboardInterrupt", True
        _show(error)
    except BaseException as error:  # noqa: BLE001 - the script's own: shown as Python shows it
        ending.status, ending.failed = 1, error_line(error)
        _show(error)
    return ending


def main_module(target: Target) -> ModuleType:
    """An empty ``__main__`` that looks as Python makes it."""
    names = types.ModuleType("__main__")
    file = str(target.path.absolute())
    names.__dict__.update(
        __file__=file,
        __builtins__=builtins,
        __loader__=importlib.machinery.SourceFileLoader("__main__", file),
        __spec__=None,
        __cached__=None,
        __package__=None,
    )
    if sys.version_info < (3, 14):
        vars(names)["__annotations__"] = {}
    if target.spec is not None:
        names.__dict__.update(
            __spec__=target.spec, __loader__=target.spec.loader, __package__=target.spec.parent, __file__=file
        )
    return names


def _status(error: SystemExit) -> int:
    """As Python reckons it; a message goes to stderr."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    """The script's own traceback, without our frames."""
    sys.stdout.flush()
    _without_ours(error, set())
    sys.excepthook(type(error), error, error.__traceback__)


def _without_ours(error: BaseException, done: set[int]) -> None:
    """Take our frames out of an error's traceback, and out of those of the errors that it came from."""
    done.add(id(error))
    error.__traceback__ = _own(error.__traceback__)
    for other in (error.__cause__, error.__context__):
        if other is not None and id(other) not in done:
            _without_ours(other, done)


def _own(frames: TracebackType | None) -> TracebackType | None:
    """The frames that are not of this package's functions."""
    own = [frame for frame in _each(frames) if _HERE not in Path(frame.tb_frame.f_code.co_filename).parents]
    for frame, after in zip(own, [*own[1:], None], strict=True):
        frame.tb_next = after
    return own[0] if own else None


def _each(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next


def _near(path: Path) -> str:
    from difflib import get_close_matches

    names = [found.name for found in path.parent.glob("*.py")] if path.parent.is_dir() else []
    close = get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _hint(path: Path) -> str:
    if path.suffix == ".ipynb":
        return ": convert it with `jupyter nbconvert --to script`, or use batchproof lint, which reads notebooks"
    return ""


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
