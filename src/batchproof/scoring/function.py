"""A function on the columns of the data: how it is called on a block of them, and its plan, or why it has none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError, NotConstantSize
from batchproof.ground import components, datafile
from batchproof.ground.batch import Batch, Layout
from batchproof.ground.tensors import close
from batchproof.metric import Aggregation, mean_of_each, per_sample, plan_from
from batchproof.scoring.columns import arguments_of
from batchproof.scoring.result import Over

#: Rows that a plan is derived from, drawn evenly from the first block.
EXAMPLE_ROWS = 256

Convert = Callable[[Sequence[Any]], list[Any]]


def _as_they_are(values: Sequence[Any]) -> list[Any]:
    return list(values)


def _as_narrow_floats(values: Sequence[Any]) -> list[Any]:
    return datafile.as_narrow(datafile.as_floats(values))


#: A column of whole numbers may hold classes or a quantity, and a model is in float32: the function says what it takes.
CONVERSIONS: tuple[Convert, ...] = (_as_they_are, datafile.as_narrow, datafile.as_floats, _as_narrow_floats)


@dataclass(frozen=True)
class ScoredFunction:
    """A function to score.

    Attributes:
        name: What it is called.
        fn: The function.
        columns: For each parameter its column, or the columns that stand side by side.
        over: The value on all samples together, or the mean of their own values.
        convert: What is done to the columns' types, so that the function takes them.
        aggregation: Its plan; None where the samples are kept.
        reason: Why they are.
        row_nbytes: Bytes of a row that is kept.
        components: The names of the numbers that it gives: ``""`` for one alone.
        is_mapped: Whether `vmap` gives the values of single samples.
    """

    name: str
    fn: Callable[..., Any]
    columns: tuple[str | tuple[str, ...], ...]
    over: Over = "dataset"
    convert: Convert = _as_they_are
    aggregation: Aggregation | None = None
    reason: str = ""
    row_nbytes: int = 0
    components: tuple[str, ...] = ("",)
    is_mapped: bool = False

    @property
    def folded(self) -> Callable[..., Any]:
        """What is folded: the function, or the mean of its values on single samples."""
        return self.fn if self.over == "dataset" else _mean_of_each

    def arguments(self, tensors: dict[str, Tensor]) -> list[Tensor]:
        """The arguments of a block, or the values of its samples where those are averaged."""
        values = self.convert(arguments_of(self.columns, tensors))
        return self.sample_values(values) if self.over == "samples" else values

    def sample_values(self, values: Sequence[Tensor]) -> list[Tensor]:
        """For each number or tensor that the function gives, its value on every sample alone."""
        if not self.is_mapped:
            return per_sample(self.fn, batch_of(values)).columns
        found = _mapped(self.fn, values)
        some = [0, len(values[0]) - 1]
        alone = per_sample(self.fn, batch_of([value[some] for value in values])).columns
        for column, own in zip(found, alone, strict=True):
            if not close(column[some].double(), own.double(), relative=1e-5):
                raise BatchproofError(
                    f"{self.name} gives other values under vmap than on single samples; please report"
                )
        return found


def _mean_of_each(*columns: Tensor) -> list[Tensor]:
    return mean_of_each(list(columns))


def prepare(
    name: str, fn: Callable[..., Any], columns: Sequence[str | tuple[str, ...]], block: dict[str, Tensor], over: Over
) -> ScoredFunction:
    """A function made ready: its plan is derived from some rows of a block.

    Raises:
        BatchproofError: the function is refused, or gives no numbers.
    """
    rows = len(next(iter(block.values())))
    drawn = torch.arange(min(rows, EXAMPLE_ROWS)) * max(rows // EXAMPLE_ROWS, 1)
    some = {key: column[drawn] for key, column in block.items()}
    plain = ScoredFunction(name, fn, tuple(columns))
    function, value = _converted(plain, plain.arguments(some))
    if over == "samples":
        function, value = _averaged(function, function.arguments(some))
    example = batch_of(function.arguments(some))
    function = replace(function, components=_names(name, value))
    try:
        found = plan_from(function.folded, example)
        if found.plan.group == 1:
            return replace(function, aggregation=found)
        reason = f"it takes whole groups of {found.plan.group} samples"
    except NotConstantSize as error:
        reason = str(error).removeprefix("no state of constant size: ").partition(";")[0]
    return replace(function, reason=reason, row_nbytes=sum(t.nbytes for t in example.leaves) // example.n)


def _converted(function: ScoredFunction, arguments: Sequence[Tensor]) -> tuple[ScoredFunction, Any]:
    """The function with the types that it takes, and its value on some rows."""
    first: Exception | None = None
    for convert in CONVERSIONS:
        values = convert(arguments)
        if first is not None and all(new is old for new, old in zip(values, arguments, strict=True)):
            continue
        try:
            return replace(function, convert=convert), function.fn(*(value.clone() for value in values))
        except BatchproofError:
            raise
        except Exception as error:  # noqa: BLE001 - the function is the user's
            first = first or error
    assert first is not None
    raise first


def _averaged(function: ScoredFunction, arguments: Sequence[Tensor]) -> tuple[ScoredFunction, Any]:
    """The function as the mean of its values on single samples, and its value on some rows."""
    values = per_sample(function.fn, batch_of(arguments))
    found = replace(function, over="samples")
    with contextlib.suppress(Exception):  # what branches on a sample cannot be mapped: samples go one by one
        mapped = _mapped(function.fn, arguments)
        same = (close(a.double(), b.double(), relative=1e-5) for a, b in zip(mapped, values.columns, strict=True))
        found = replace(found, is_mapped=all(same))
    return found, values.mean()


def _mapped(fn: Callable[..., Any], arguments: Sequence[Tensor]) -> list[Tensor]:
    """For each number or tensor that a function gives, its value on every sample as a batch of one."""
    found = vmap(lambda *row: tuple(torch.as_tensor(leaf) for leaf in pytree.tree_leaves(fn(*row))))(
        *(argument.unsqueeze(1) for argument in arguments)
    )
    return [column if column.is_floating_point() or column.is_complex() else column.double() for column in found]


def _names(name: str, value: Any) -> tuple[str, ...]:
    names = tuple(components.names(value))
    if not names:
        raise BatchproofError(f"{name} returns {type(value).__name__}: there is no number in it to report")
    return names


def batch_of(arguments: Sequence[Tensor]) -> Batch:
    """Arguments of a function, samples first in each."""
    count = len(arguments)
    names = tuple(f"argument {number + 1}" for number in range(count))
    return Batch(Layout((0,) * count, names, (0,) * count, ()), list(arguments), len(arguments[0]))
