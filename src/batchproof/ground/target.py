"""What a user named: from what was typed to the object (``loss.py:rmse``), and its title, place and parameters."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.place import OWN_FOLDER, Place, place
from batchproof.ground.text import error_line


def resolve(typed: str) -> Any:
    """The object of that name; a class is made into an object, with no arguments.

    Raises:
        BatchproofError: there is no such file, module or name, or importing it fails.
    """
    source, colon, name = typed.rpartition(":")
    if not colon or source.endswith("\\") or "/" in name:
        source, name = typed, ""
    module = _from_file(Path(source)) if source.endswith(".py") or "/" in source else _from_module(source)
    if not name:
        name = _only_function(module, source)
    return _made(_attribute(module, name, source), f"{source}:{name}")


def _from_file(path: Path) -> ModuleType:
    """Import a file as Python runs it: with its directory first on the path, and not as ``__main__``.

    A file of a package is imported as a module of it, so that its relative imports work: the package's root is the
    first folder above without an ``__init__.py``, as for pytest.
    """
    if not path.is_file():
        raise BatchproofError(f"there is no file {path}{_near(path.name, _python_files(path.parent))}")
    root, name = _in_package(path.resolve())
    if root is not None:
        sys.path.insert(0, str(root))
        return _module_of_package(name, path)
    sys.path.insert(0, str(path.resolve().parent))
    name = path.stem if path.stem not in sys.modules else f"_batchproof_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise BatchproofError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        raise _import_failed(str(path), error) from error
    return module


def _in_package(path: Path) -> tuple[Path | None, str]:
    """The folder that a file's package lies in, and the file's name as a module; None where it is in no package."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    if len(parts) == 1:
        return None, path.stem
    return folder, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module_of_package(name: str, path: Path) -> ModuleType:
    """A file of a package, imported by its name.

    Raises:
        BatchproofError: importing it fails, or another package of that name was imported before.
    """
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        raise _import_failed(str(path), error) from error
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path.resolve():
        raise BatchproofError(f"{path} would be imported as {name}, and that is {found or 'another module'}")
    return module


def _from_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            hint = f"; did you mean {_split(name)}?" if "." in name and _is_importable(name.rpartition(".")[0]) else ""
            raise BatchproofError(f"there is no module {missing}{hint or _near(missing, _modules_here())}") from error
        raise _import_failed(name, error) from error
    except Exception as error:
        raise _import_failed(name, error) from error


def _split(name: str) -> str:
    module, _, last = name.rpartition(".")
    return f"{module}:{last}"


def _is_importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except Exception:  # noqa: BLE001 - only a hint depends on it
        return False
    return True


def _attribute(module: ModuleType, name: str, source: str) -> Any:
    found: Any = module
    for part in name.removesuffix("()").split("."):
        if not hasattr(found, part):
            raise BatchproofError(f"{source} has no {name}{_near(part, [key for key in dir(found) if key[0] != '_'])}")
        found = getattr(found, part)
    return found


def _made(found: Any, typed: str) -> Any:
    """An object of a class (or what a function with ``()`` behind it returns)."""
    if not (isinstance(found, type) or typed.endswith("()")):
        return found
    try:
        return found()
    except TypeError as error:
        raise BatchproofError(
            f"{typed} cannot be made without arguments ({error}): make it in a file, and name that"
        ) from error


def _only_function(module: ModuleType, source: str) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    ]
    if len(own) == 1:
        return own[0]
    few = ", ".join(f"{source}:{name}" for name in own[:5])
    raise BatchproofError(f"which name in {source}? {f'It has {few}' if own else 'It defines no function'}")


def _import_failed(what: str, error: BaseException) -> BatchproofError:
    if isinstance(error, SystemExit):
        return BatchproofError(f'{what} exits when it is imported; put its work under if __name__ == "__main__":')
    if not isinstance(error, Exception):
        raise error
    return BatchproofError(f"importing {what} raised {described(error)}")


def described(error: BaseException) -> str:
    """Somebody else's error in one or two lines: its type, its message and the line of theirs that raised it."""
    text = error_line(error)
    if isinstance(error, SyntaxError) and error.filename is None:  # a file with null bytes has no lines
        return text
    if isinstance(error, SyntaxError):
        return f"{text}\n       {error.filename}:{error.lineno}   {(error.text or '').strip()}"
    hidden = (OWN_FOLDER, *map(_folder_of, ("importlib", "click")), "<frozen")
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(hidden) and f"site-packages{_SEP}torch{_SEP}" not in frame.filename
    ]
    return f"{text}\n       {own[-1].filename}:{own[-1].lineno}   {own[-1].line}" if own else text


def _folder_of(package: str) -> str:
    """Where a package lies that only carries calls on."""
    return str(Path(importlib.import_module(package).__file__ or "").parent)


def _near(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _python_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.py")] if folder.is_dir() else []


def _modules_here() -> list[str]:
    return [path.stem for path in Path.cwd().glob("*.py")]


_SEP = "\\" if sys.platform == "win32" else "/"


# ------------------------------------------------------------------ what is said of it


def is_metric(target: object) -> bool:
    """Whether it accumulates over batches: update, compute and reset."""
    verbs = ("update", "compute", "reset")
    return not isinstance(target, type) and all(callable(getattr(target, verb, None)) for verb in verbs)


def signature_of(target: Any) -> Callable[..., Any]:
    """The function whose parameters the example fills: `update` of a metric, `forward` of a module."""
    if is_metric(target):
        return target.update  # type: ignore[no-any-return]
    forward = getattr(target, "forward", None)
    return forward if callable(forward) and not inspect.isfunction(target) else target  # type: ignore[no-any-return]


def required(target: Any) -> list[inspect.Parameter]:
    """The parameters that must be given."""
    return [
        parameter
        for parameter in parameters(target)
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]


def parameters(target: Any) -> list[inspect.Parameter]:
    """Every parameter that has a name of its own."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        found = inspect.signature(signature_of(target)).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter for parameter in found if parameter.kind not in variadic]


def name_of(target: Any) -> str:
    """``rmse``, ``partial(rmse)``, ``HuberLoss``."""
    if isinstance(target, functools.partial):
        return f"partial({name_of(target.func)})"
    name = getattr(target, "__name__", None) or type(target).__name__
    return "lambda" if name == "<lambda>" else str(name)


def title_of(target: Any) -> str:
    """``rmse(pred, real)``, ``MeanSquaredError.update(preds, target)``."""
    names = ", ".join(parameter.name for parameter in required(target))
    return f"{name_of(target)}{'.update' if is_metric(target) else ''}({names})"


def place_of(target: Any) -> Place | None:
    """The line that defines it; None for what has no Python source."""
    if isinstance(target, functools.partial):
        return place_of(target.func)
    source = inspect.unwrap(target) if callable(target) else target
    if not (inspect.isfunction(source) or inspect.ismethod(source) or inspect.isclass(source)):
        source = type(source)
    if inspect.isclass(source) and is_metric(target):
        source = target.update
    elif inspect.isclass(source) and hasattr(source, "forward"):
        source = source.forward
    try:
        file = inspect.getsourcefile(source)
        line = inspect.getsourcelines(source)[1]
    except (OSError, TypeError):
        return None
    found = place(file, line) if file is not None else None
    # torch's own source is nobody's to repair
    return None if found is None or found.file.startswith(f"torch{os.sep}") else found
