"""The parameters of functions, and the columns of the data that they are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchproof.errors import BatchproofError
from batchproof.ground.datafile import columns_of, is_number, side_by_side
from batchproof.ground.text import counted, listed
from batchproof.scoring.blocks import Source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Arguments:
    """Which columns are read, each once, and which of them each function takes."""

    columns: tuple[str, ...]
    by_function: dict[str, tuple[str | tuple[str, ...], ...]]  # names that stand together are columns side by side


def arguments_of(columns: Sequence[str | tuple[str, ...]], tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """What a function is called with: the columns that it takes, those that stand together side by side."""
    return [
        tensors[column] if isinstance(column, str) else side_by_side([tensors[name] for name in column])
        for column in columns
    ]


def match_columns(
    source: Source,
    functions: Mapping[str, Sequence[str]],
    renames: Mapping[str, str] | None = None,
    keys: Sequence[str] = (),
) -> Arguments:
    """The columns that functions take, by the names of their parameters.

    >>> from batchproof.scoring.source import open_source
    >>> source = open_source({"score_0": [1.0], "score_1": [2.0], "yTrue": [0]})
    >>> match_columns(source, {"loss": ["score", "y_true"]}).by_function
    {'loss': (('score_0', 'score_1'), 'yTrue')}

    Args:
        source: The data.
        functions: Each function's parameters, by a title of it. One of which no parameters are known takes all columns.
        renames: The column of a parameter that has another name.
        keys: Columns that groups are made of.

    Raises:
        BatchproofError: a column is missing, holds no numbers, or is not the same in all files; a name names nothing.
    """
    renames = renames or {}
    taken = {parameter for parameters in functions.values() for parameter in parameters}
    stray = next((parameter for parameter in renames if parameter not in taken), None)
    if stray is not None:
        near = difflib.get_close_matches(stray, taken, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BatchproofError(
            f"--column {stray}={renames[stray]}: no function has a parameter {stray}; {hint}"
            f"there {'is' if len(taken) == 1 else 'are'} {listed(sorted(taken))}"
            if taken
            else f"--column {stray}={renames[stray]}: no function has a parameter {stray}"
        )
    by_function = {
        title: _in_order(source, title, parameters)
        if not parameters or all(re.fullmatch(r"#\d+", name) for name in source.columns)
        else tuple(_column(source, title, parameter, renames) for parameter in parameters)
        for title, parameters in functions.items()
    }
    columns = dict.fromkeys(
        name
        for found in by_function.values()
        for column in found
        for name in ([column] if isinstance(column, str) else column)
    )
    for name in columns:
        if name in source.not_numbers and name not in source.unreadable and source.columns[name] == "text":
            raise BatchproofError(_text_in(source, name))
    source.check(tuple(columns), keys)
    return Arguments(tuple(columns), by_function)


def _column(source: Source, title: str, parameter: str, renames: Mapping[str, str]) -> str | tuple[str, ...]:
    wanted = renames.get(parameter, parameter)
    found = columns_of(wanted, list(source.columns))
    if found is not None:
        return found
    if parameter in renames:
        raise BatchproofError(
            f"--column {parameter}={wanted}: {source.title} has no column {wanted}; {source.nearest(wanted)}"
        )
    raise BatchproofError(
        f"{source.title} has no column {parameter}, which {title} takes: {source.nearest(parameter)}; "
        f"name it with --column {parameter}=..."
    )


def _in_order(source: Source, title: str, parameters: Sequence[str]) -> tuple[str, ...]:
    """Columns without names, one for each parameter; all of them where no parameters are known."""
    names = tuple(source.columns)
    if len(names) < len(parameters):
        raise BatchproofError(
            f"{source.title} holds {counted(len(names), 'array')} without a name, and {title} takes "
            f"{', '.join(parameters)}: save them by name in one .npz file"
        )
    return names[: len(parameters)] if parameters else names


def _text_in(source: Source, name: str) -> str:
    """What a column of text holds that is no number, and where, as far as that shows soon."""
    with suppress(BatchproofError):
        for piece in source.pieces[:4]:
            row = 0
            for block in source.read(piece, (), [name]):
                for value in block.keys[0].to_pylist():
                    if value is not None and not is_number(value):
                        return f"the column {name} holds text ({value!r} in {source.locate(piece, row)}), not numbers"
                    row += 1
    return f"{source.title}: the column {name} holds text, not numbers"
