"""What is being explained: its name as the user would write it, its parameters, and where it is defined."""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchproof.explanation.result import Given
from batchproof.ground.place import Place


@dataclass(frozen=True)
class Subject:
    """What every report begins with."""

    target: Any
    title: str
    place: Place | None
    inputs: tuple[Given, ...]


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
    # torch's own source is nobody's to mend
    return None if found is None or found.file.startswith(f"torch{os.sep}") else found


def place(file: str, line: int) -> Place:
    """A place as the report shows it."""
    return Place(short(file), line, linecache.getline(file, line).strip())


def short(file: str) -> str:
    """A path as one would type it: relative to here, or to the ``sys.path`` entry that holds it."""
    if file.startswith("<"):
        return file
    path = Path(file).absolute()
    if "site-packages" not in path.parts:
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
    roots = [Path(root).absolute() for root in sys.path if root]
    inside = [root for root in roots if path.is_relative_to(root)]
    return str(path.relative_to(max(inside, key=lambda root: len(root.parts)))) if inside else file
