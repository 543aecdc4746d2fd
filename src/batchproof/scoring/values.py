"""From a tally to values: of the whole, of every group and of every piece, each with its error bar where it has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from batchproof.derive import OneByOne, StatesByGroup, finish_sizes
from batchproof.errors import BatchproofError
from batchproof.ground import components
from batchproof.ground.batch import tensors_of
from batchproof.ground.isolation import quiet
from batchproof.ground.text import error_line
from batchproof.metric import Aggregation, PartialState, delete_group_errors, recheck, standard_error
from batchproof.scoring.function import ScoredFunction
from batchproof.scoring.tally import CELLS, FoldedSamples, KeptSamples

#: So many groups are finished at once, fewer one by one.
MANY = 8
#: A function that keeps its samples is called again for an error bar where that takes at most so many samples.
MOST_CALLED = 5_000_000
#: Groups whose error bars are found one by one, where they cannot be found for all at once.
MOST_ONE_BY_ONE = 200

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Values:
    """One function's numbers on several sets of samples.

    Attributes:
        values: A row for each set, a column for each number; float64. NaN where the function raised.
        errors: Their standard errors, NaN where there is none.
        raised: For the sets on which the function raised, or its state was refused, what was said.
        refused: Those on which its state was.
    """

    values: Tensor
    errors: Tensor
    raised: dict[int, str] = field(default_factory=dict)
    refused: frozenset[int] = frozenset()


def whole(one: FoldedSamples | KeptSamples) -> Values:
    """On all samples together.

    Raises:
        BatchproofError: the function goes another way on all of them, or its state does not give its value on a few.
    """
    if isinstance(one, KeptSamples):
        return _whole_of_kept(one)
    aggregation = _aggregation(one)
    recheck(aggregation.fn, aggregation.variants, one.sample())
    cells = [state for state in one.cells if state is not None and state.n]
    value = _finished(aggregation, aggregation.merge(cells))
    errors = torch.full_like(value, torch.nan)
    if len(cells) > 1:

        def left(places: Sequence[int]) -> Tensor:
            return _finished(aggregation, aggregation.merge(cells[place] for place in places))

        with suppress(Exception):  # without some of the samples the function may raise what it likes
            errors = standard_error(left, [state.n for state in cells])
    return Values(value[None], errors[None])


def by_piece(one: FoldedSamples | KeptSamples, parts: Sequence[Sequence[int]]) -> Values:
    """On the samples of some pieces together, for each list of their numbers."""
    if isinstance(one, FoldedSamples):
        aggregation, states = _aggregation(one), one.pieces
        return _each(lambda part: _finished(aggregation, aggregation.merge(states[n] for n in part)), parts)
    blocks: dict[int, list[list[Tensor]]] = {}
    for piece, block in zip(one.pieces, one.blocks, strict=True):
        blocks.setdefault(piece, []).append(block)
    return _each(lambda part: _called(one.function, _joined([block for n in part for block in blocks[n]])), parts)


def by_part(one: FoldedSamples | KeptSamples) -> Values:
    """On each of some parts of about one size: what a piece that is alone is cut into."""
    if isinstance(one, FoldedSamples):
        aggregation = _aggregation(one)
        cells = [state for state in one.cells if state is not None and state.n]
        return _each(lambda state: _finished(aggregation, state), cells)
    parts = zip(*(value.chunk(CELLS) for value in _joined(one.blocks)), strict=True)
    return _each(lambda part: _called(one.function, part), list(parts))


def by_group(one: FoldedSamples | KeptSamples, count: int, progress: Progress | None = None) -> Values:
    """On the samples of each group, by its number.

    Args:
        one: what a function has.
        count: how many groups there are.
        progress: called with how many groups are done, and how many there are.
    """
    if isinstance(one, KeptSamples):
        return _groups_of_kept(one, count, progress)
    assert one.groups is not None
    cells = one.group_cells
    together = StatesByGroup.empty(one.groups.plan, count)
    places = torch.arange(count * cells)
    together.absorb(one.groups, places // cells)
    found = _finish_all(one, together, progress)
    return replace(found, errors=_errors(one, together, found.values)) if cells > 1 else found


# ---------------------------------------------------------------------- states


def _aggregation(one: FoldedSamples) -> Aggregation:
    assert one.function.aggregation is not None
    return one.function.aggregation


def _finished(aggregation: Aggregation, state: PartialState) -> Tensor:
    return components.values(aggregation.finish_wide(state))


def _finish_all(one: FoldedSamples, states: StatesByGroup, progress: Progress | None) -> Values:
    """The states of many groups, finished: at once where the function never asks how many samples there are."""
    aggregation, counts = _aggregation(one), states.counts
    values = torch.full((len(counts), len(one.function.components)), torch.nan, dtype=torch.float64)
    filled = counts.nonzero().flatten()
    if len(filled) >= MANY:
        with suppress(OneByOne, BatchproofError):
            values[filled], sound = _at_once(aggregation, states.stacked(filled), counts[filled], values.shape[1])
            filled = filled[~sound]

    def alone(group: Tensor) -> Tensor:
        leaves = tuple(leaf[0] for leaf in states.stacked(group[None]))
        state = PartialState(leaves, tuple(states.lengths[:, group].tolist()), int(counts[group]), aggregation.form)
        return _finished(aggregation, state)

    found = _spread(_each(alone, list(filled), values.shape[1], progress), filled.tolist(), len(counts))
    values[filled] = found.values[filled]
    return replace(found, values=values)


def _at_once(aggregation: Aggregation, leaves: Sequence[Tensor], sizes: Tensor, numbers: int) -> tuple[Tensor, Tensor]:
    """The values of many states, and of which of them the digits suffice.

    Raises:
        OneByOne: the function cannot be finished on many at once.
    """
    tensors, dims = tensors_of(aggregation.example)
    with torch.inference_mode(False), quiet(aggregation.fn):
        found = finish_sizes(aggregation.plan, leaves, tensors, dims, sizes)
    rows = len(found.sound)
    parts = [torch.view_as_real(leaf) if leaf.is_complex() else leaf for leaf in found.leaves]
    flat = torch.cat([part.reshape(rows, -1).double() for part in parts], 1)[:, : components.MOST]
    if flat.shape[1] != numbers:
        raise OneByOne("it gives another number of numbers")
    return flat, found.sound


def _errors(one: FoldedSamples, together: StatesByGroup, values: Tensor) -> Tensor:
    """The standard errors of groups, by leaving out each of their cells in turn; one by one where these are few."""
    assert one.groups is not None
    cells, errors = one.group_cells, torch.full_like(values, torch.nan)
    counts = one.groups.counts[: len(values) * cells].reshape(-1, cells)
    some = ((counts > 0).sum(1) > 1).nonzero().flatten()
    if len(some):
        with suppress(OneByOne, BatchproofError):
            errors[some] = _errors_at_once(one, together, values[some], counts[some], some)
        missing = some[errors[some].isnan().any(1) & values[some].isfinite().all(1)]
        for group in missing.tolist() if len(missing) <= MOST_ONE_BY_ONE else ():
            with suppress(Exception):  # without some of its samples the function may raise what it likes
                errors[group] = _error_alone(one, counts, group)
    return errors


def _errors_at_once(
    one: FoldedSamples, together: StatesByGroup, values: Tensor, counts: Tensor, groups: Tensor
) -> Tensor:
    assert one.groups is not None
    cells, plan = one.group_cells, one.groups.plan
    places = (groups[:, None] * cells + torch.arange(cells)).flatten()
    parts = [torch.unflatten(leaf, 0, (len(groups), cells)) for leaf in one.groups.stacked(places)]
    n = counts.sum(1, keepdim=True)
    sizes = torch.cat([n, n - counts], 1)
    states = []
    for leaf, own, whole in zip(plan.leaves, parts, together.stacked(groups), strict=True):
        without = [leaf.merge.reduce(torch.cat([own[:, :i], own[:, i + 1 :]], 1).movedim(1, 0)) for i in range(cells)]
        states.append(torch.cat([whole[:, None], torch.stack(without, 1)], 1).flatten(0, 1))
    flat, sound = _at_once(_aggregation(one), states, sizes.flatten(), values.shape[1])
    flat[~sound] = torch.nan
    found = torch.unflatten(flat, 0, (len(groups), cells + 1))
    return delete_group_errors(found[:, 0], found[:, 1:], counts)


def _error_alone(one: FoldedSamples, counts: Tensor, group: int) -> Tensor:
    assert one.groups is not None
    aggregation, filled = _aggregation(one), (counts[group] > 0).nonzero().flatten()
    places = group * one.group_cells + filled
    leaves, lengths = one.groups.stacked(places), one.groups.lengths[:, places]
    sizes = counts[group][filled].tolist()
    states = [
        PartialState(tuple(leaf[i] for leaf in leaves), tuple(lengths[:, i].tolist()), size, aggregation.form)
        for i, size in enumerate(sizes)
    ]
    return standard_error(  # type: ignore[no-any-return]
        lambda left: _finished(aggregation, aggregation.merge(states[i] for i in left)), sizes
    )


# ---------------------------------------------------------------------- samples


def _whole_of_kept(one: KeptSamples) -> Values:
    joined = _joined(one.blocks)
    value = _called(one.function, joined)
    errors = torch.full_like(value, torch.nan)
    rows = len(joined[0])
    if 1 < rows <= MOST_CALLED // CELLS:
        cell = torch.arange(rows) * CELLS // rows
        with suppress(Exception):  # without some of the samples the function may raise what it likes
            errors = _error_of_rows(one.function, joined, cell)
    return Values(value[None], errors[None])


def _error_of_rows(function: ScoredFunction, rows: Sequence[Tensor], cell: Tensor) -> Tensor:
    """By leaving out the rows of each cell in turn."""
    cells, sizes = torch.unique(cell, return_counts=True)

    def left(places: Sequence[int]) -> Tensor:
        chosen = torch.isin(cell, cells[list(places)])
        return _called(function, [value[chosen] for value in rows])

    return standard_error(left, sizes.tolist())  # type: ignore[no-any-return]


def _groups_of_kept(one: KeptSamples, count: int, progress: Progress | None) -> Values:
    joined = _joined(one.blocks)
    group = torch.cat([groups for groups in one.groups if groups is not None])
    order = group.argsort(stable=True)
    sizes = torch.bincount(group, minlength=count).tolist()
    columns = [torch.split(value[order], sizes) for value in joined]
    filled = [number for number in range(count) if sizes[number]]
    rows = [[column[number] for column in columns] for number in filled]
    found = _each(lambda own: _called(one.function, own), rows, len(one.function.components), progress)
    if len(group) <= MOST_CALLED // CELLS:
        bars = _each(lambda own: _error_of_rows(one.function, own, torch.arange(len(own[0])) % CELLS), rows)
        found = replace(found, errors=bars.values.expand_as(found.values))
    return _spread(found, filled, count)


def _spread(found: Values, places: Sequence[int], count: int) -> Values:
    """Values of some sets in their places among all."""
    values = torch.full((count, found.values.shape[1]), torch.nan, dtype=torch.float64)
    errors = values.clone()
    values[places], errors[places] = found.values, found.errors
    raised = {places[at]: why for at, why in found.raised.items()}
    return Values(values, errors, raised, frozenset(places[at] for at in found.refused))


def _joined(blocks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


def _called(function: ScoredFunction, rows: Sequence[Tensor]) -> Tensor:
    """The function's numbers on samples; it may write into what it gets."""
    with quiet(function.fn):
        return components.values(function.folded(*(value.clone() for value in rows)))


# ---------------------------------------------------------------------- what may fail


def _each(
    work: Callable[[Any], Tensor], sets: Sequence[Any], numbers: int = 1, progress: Progress | None = None
) -> Values:
    """The numbers of each of several sets of samples: on a few of them the function may have no value, and raise."""
    found: list[Tensor | None] = []
    raised: dict[int, str] = {}
    refused: set[int] = set()
    for at, one in enumerate(sets):
        try:
            found.append(work(one))
        except Exception as error:  # noqa: BLE001 - whatever it raises
            found.append(None)
            raised[at] = error_line(error)
            if isinstance(error, BatchproofError):
                refused.add(at)
        if progress is not None:
            progress(at + 1, len(sets))
    width = next((len(row) for row in found if row is not None), numbers)
    nothing = torch.full((width,), torch.nan, dtype=torch.float64)
    values = torch.stack([nothing if row is None else row for row in found]) if found else nothing[None][:0]
    return Values(values, torch.full_like(values, torch.nan), raised, frozenset(refused))
