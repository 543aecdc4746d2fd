"""The user's samples: columns of a data file, as a target takes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from torch import Tensor

Found = TypeVar("Found")
_ERRORS = ("error", "errors", "residual", "residuals")
_PREDICTION = ("pred", "hat", "forecast", "estimate", "output")


def run_on(
    run: Callable[..., Any], target: Any, path: Path, mapping: Mapping[str, str], *, must_be_finite: bool = False
) -> Any:
    """Run on the columns that the target's parameters name; where that tells nothing, say which row has no number.

    Raises:
        BatchproofError: the columns do not fit, or ``must_be_finite`` and one has a row that is not.
    """
    from batchproof.ground import datafile
    from batchproof.ground.target import required, title_of

    columns = datafile.load(path)
    names = [parameter.name for parameter in required(target)]
    more = _optional(target, columns, mapping)
    example = datafile.fill(columns, [*names, *more], mapping, path, title_of(target))
    titles = [*names, *more]
    if len(titles) != len(example):
        titles = [f"array {index + 1}" for index in range(len(example))]
    strange = datafile.not_finite(dict(zip(titles, example, strict=True)), path)
    if strange is not None and must_be_finite:
        raise BatchproofError(f"{strange}: take such rows out first")
    found = _run_as_it_fits(_by_name(run, more) if more else run, example)
    if strange is not None and found.exit_status == 2:
        return replace(found, notes=(f"{strange}: take such rows out first", *found.notes))
    return found


def _optional(target: Any, columns: Mapping[str, Any], mapping: Mapping[str, str]) -> list[str]:
    """What a model need not be given and the file has: a mask, position ids; those of transformers need nothing."""
    from batchproof.ground.target import is_metric, parameters, required, signature_of

    if signature_of(target) is target or is_metric(target):
        return []
    needed = {parameter.name for parameter in required(target)}
    names = [parameter.name for parameter in parameters(target) if parameter.name not in needed]
    return [name for name in names if mapping.get(name, name) in columns]


def _by_name(run: Callable[..., Found], names: Sequence[str]) -> Callable[..., Found]:
    """The same, which takes the last of its arguments by these names."""

    def run_by_name(*example: Any) -> Found:
        first = len(example) - len(names)
        return run(*example[:first], **dict(zip(names, example[first:], strict=True)))

    return run_by_name


def _run_as_it_fits(run: Callable[..., Found], example: Sequence[Any]) -> Found:
    """On the columns in their own types, or in those that the function takes."""
    from batchproof.ground import datafile

    try:
        return run(*example)
    except BatchproofError:
        raise
    except Exception:
        # a column of whole numbers may hold classes, or a quantity, and a model is in float32: the function says which
        # it takes, and the report shows it
        floats = datafile.as_floats(example)
        for other in (datafile.as_narrow(example), floats, datafile.as_narrow(floats)):
            if any(new is not old for new, old in zip(other, example, strict=True)):
                with contextlib.suppress(Exception):
                    return run(*other)
        raise


def groups_in(column: str | None, path: Path | None) -> Tensor | None:
    """The group of each sample, by a column of the data file; None where none is asked for.

    Raises:
        BatchproofError: there is no file, no such column, or there are no numbers in it.
    """
    if column is None:
        return None
    if path is None:
        raise BatchproofError("--groups names a column of --data: give both")
    from batchproof.ground import datafile

    found = datafile.load(path)
    if column not in found:
        raise BatchproofError(f"{path} has the columns {', '.join(found)}, and no {column}")
    return _numbers(found[column], column, path)


def errors_in(path: Path, mapping: Mapping[str, str]) -> Tensor:
    """The errors that a file holds: a column of them, or a prediction less its target.

    Raises:
        BatchproofError: it has neither.
    """
    from batchproof.ground import datafile

    columns = datafile.load(path)
    names = _named(columns, mapping, path) if mapping else _recognised(list(columns))
    if names is None:
        raise BatchproofError(
            f"{path} has the columns {', '.join(columns)}: none is called error, and which two hold a prediction and "
            "its target is not clear; name them with --column error=... or with --column pred=... --column real=..."
        )
    values = [_numbers(columns[name], name, path) for name in names]
    strange = datafile.not_finite(dict(zip(names, values, strict=True)), path)
    if strange is not None:
        raise BatchproofError(f"{strange}: take such rows out first")
    if len(values) == 1:
        return values[0]
    if values[0].shape != values[1].shape:
        shapes = " and ".join(f"{name} {tuple(value.shape)}" for name, value in zip(names, values, strict=True))
        raise BatchproofError(f"{path}: {shapes} do not have the same shape")
    return values[0] - values[1]


def _named(columns: Mapping[str, Any], mapping: Mapping[str, str], path: Path) -> list[str] | None:
    """The columns that the user named, the prediction first."""
    from batchproof.explanation.guess import role_of

    for column in mapping.values():
        if column not in columns:
            raise BatchproofError(f"{path} has the columns {', '.join(columns)}, and no {column}")
    if len(mapping) == 1 and next(iter(mapping)).lower() in _ERRORS:
        return list(mapping.values())
    targets = [column for name, column in mapping.items() if role_of(name) == "target"]
    others = [column for name, column in mapping.items() if role_of(name) != "target"]
    return [*others, *targets] if len(targets) == len(others) == 1 else None


def _recognised(names: list[str]) -> list[str] | None:
    """The columns that are what their names say."""
    from batchproof.explanation.guess import role_of

    of_errors = [name for name in names if name.lower() in _ERRORS]
    if of_errors or names in (["#1"], ["#1", "#2"]):
        return of_errors[:1] or names
    targets = [name for name in names if role_of(name) == "target"]
    others = [name for name in names if name not in targets]
    if len(names) > 2:  # beside a target, any one column may hold its prediction; of several only one that says so
        others = [name for name in others if any(word in name.lower() for word in _PREDICTION)]
    return [*others, *targets] if len(targets) == len(others) == 1 else None


def _numbers(values: Any, name: str, path: Path) -> Tensor:
    import torch

    if not isinstance(values, torch.Tensor):
        why = getattr(values, "why", "does not hold numbers")
        raise BatchproofError(f"{path}: the column of {name} {why}")
    # whole numbers are quantities here, and the difference of two near ones should keep its digits
    return values.double()
