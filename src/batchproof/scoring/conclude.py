"""From what was folded to the result: values, error bars, what averaging would have said, and groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.ground.target import place_of, required
from batchproof.scoring import values
from batchproof.scoring.blocks import Piece, Source
from batchproof.scoring.function import ScoredFunction
from batchproof.scoring.result import AverageOfParts, GroupScore, Number, Scores
from batchproof.scoring.tally import FoldedSamples, KeptSamples, Key, Scan, Tally

Progress = Callable[[str, int, int | None], None]
#: Does a scan on the data.
Again = Callable[[Scan], Tally]

#: The values of more pieces than this are not averaged.
MOST_PIECES = 20_000
#: Of data in one piece, parts of fewer rows than this show nothing.
FEWEST_ROWS = 10


def conclude(scan: Scan, tally: Tally, again: Again, interrupted: bool, progress: Progress) -> Scores:
    """From what was folded to the result.

    Args:
        scan: what was done.
        tally: what was found.
        again: does another scan on the same data: where a state is refused, its samples are read once more, and kept.
        interrupted: whether the tally is that of a part of the data.
        progress: as in `score`.

    Raises:
        BatchproofError: no rows were left, or a function has no value on them.
    """
    rows = sum(tally.rows.values())
    if not rows:
        why = f": all {tally.dropped:,} rows hold a null" if tally.dropped else ""
        raise BatchproofError(f"{scan.source.title} has no rows to score{why}")
    pieces = [piece for piece in scan.source.pieces if tally.rows.get(piece.number)]
    numbers: list[Number] = []
    notes: list[str] = []
    states: list[FoldedSamples | KeptSamples] = []
    for one in tally.functions:
        one, whole = _whole(scan, tally, one, again if not interrupted else None, notes)
        states.append(one)
        numbers += _numbers(one, whole, scan.source, pieces)
    groups, raised = _groups(scan, tally, states, again if not interrupted else None, progress) if scan.by else ((), ())
    return Scores(
        data=scan.source.title,
        numbers=tuple(numbers),
        rows=rows,
        over=scan.functions[0].over,
        by=scan.by,
        groups=groups,
        columns=tuple(_given(function) for function in scan.functions),
        pieces=len(pieces),
        dropped=tally.dropped,
        not_a_number=tally.not_a_number,
        raised=raised,
        notes=tuple(notes),
        interrupted=interrupted,
    )


def _whole(
    scan: Scan, tally: Tally, one: FoldedSamples | KeptSamples, again: Again | None, notes: list[str]
) -> tuple[FoldedSamples | KeptSamples, values.Values]:
    """The value on all samples; where its state is refused, that of the samples themselves."""
    try:
        return one, values.whole(one)
    except BatchproofError as refusal:
        if again is None or isinstance(one, KeptSamples):
            raise
        kept = _kept(scan, tally, one.function, None, again, reason=str(refusal))
        notes.append(f"{one.function.name} was read twice, and its samples kept: {refusal}")
        return kept, values.whole(kept)


def _kept(
    scan: Scan, tally: Tally, function: ScoredFunction, only: frozenset[Key] | None, again: Again, reason: str = ""
) -> KeptSamples:
    """The samples of a function that folded them, of some groups alone or of all; read once more."""
    kept = replace(function, aggregation=None, reason=reason, row_nbytes=8 * len(function.columns))
    found = again(replace(scan, functions=(kept,), only=only))
    own = KeptSamples(kept)
    one = found.functions[0]
    assert isinstance(one, KeptSamples)
    own.absorb(one, tally.keys.of_keys(found.keys.numbers))
    return own


def _numbers(
    one: FoldedSamples | KeptSamples, whole: values.Values, source: Source, pieces: Sequence[Piece]
) -> Iterator[Number]:
    function: ScoredFunction = one.function
    averaged = _averaged(one, source, pieces, whole.values[0].tolist())
    for place, component in enumerate(function.components):
        yield Number(
            function=function.name,
            component=component,
            value=float(whole.values[0, place]),
            standard_error=float(whole.errors[0, place]),
            averaged=averaged[place] if averaged else None,
            place=place_of(function.fn),
            kept=function.reason if isinstance(one, KeptSamples) else "",
        )


def _averaged(one: Any, source: Source, pieces: Sequence[Piece], whole: Sequence[float]) -> list[AverageOfParts]:
    """What averaging the pieces would have said; of one piece alone, equal parts of it."""
    if len(pieces) > MOST_PIECES:
        return []
    files: dict[str, list[int]] = {}
    for piece in pieces:
        files.setdefault(piece.file, []).append(piece.number)
    if len(files) > 1:
        found, what = values.by_piece(one, list(files.values())), "files"
    elif len(pieces) > 1:
        found, what = values.by_piece(one, [[piece.number] for piece in pieces]), source.pieces_are
    else:
        found, what = values.by_part(one), "equal parts"
        if pieces[0].rows is not None and pieces[0].rows < FEWEST_ROWS * len(found.values):
            return []
    if len(found.values) < 2:
        return []
    means = found.values.mean(0).tolist()
    return [
        AverageOfParts(what, len(found.values), mean, (mean - value) / abs(value) if value else math.nan)
        for mean, value in zip(means, whole, strict=True)
    ]


def _groups(
    scan: Scan, tally: Tally, states: Sequence[FoldedSamples | KeptSamples], again: Again | None, progress: Progress
) -> tuple[tuple[GroupScore, ...], tuple[str, ...]]:
    """A row for each group, in the order of their keys; and what functions raised on groups."""
    count = len(tally.keys)
    found = [
        values.by_group(one, count, lambda done, total: progress("finishing groups", done, total)) for one in states
    ]
    if again is not None:
        found = [_repaired(scan, tally, one, own, again) for one, own in zip(states, found, strict=True)]
    numbers = torch.cat([one.values for one in found], 1).tolist()
    errors = torch.cat([one.errors for one in found], 1).tolist()
    sizes = _sizes(tally, count)
    groups = [
        GroupScore(key, sizes[at], tuple(numbers[at]), tuple(errors[at])) for key, at in tally.keys.numbers.items()
    ]
    raised = tuple(
        f"{function.name} has no value on {len(one.raised):,} of {count:,} groups: {next(iter(one.raised.values()))}"
        for function, one in zip(scan.functions, found, strict=True)
        if one.raised
    )
    return tuple(sorted(groups, key=lambda group: _order(group.key))), raised


def _repaired(
    scan: Scan, tally: Tally, one: FoldedSamples | KeptSamples, found: values.Values, again: Again
) -> values.Values:
    """The values of groups, those whose state was refused from their samples."""
    if not found.refused or isinstance(one, KeptSamples):
        return found
    keys = list(tally.keys.numbers)
    kept = _kept(scan, tally, one.function, frozenset(keys[at] for at in found.refused), again)
    own = values.by_group(kept, len(keys))
    some = sorted(found.refused)
    found.values[some], found.errors[some] = own.values[some], own.errors[some]
    raised = {at: said for at, said in found.raised.items() if at not in found.refused}
    return replace(found, raised=raised | {at: own.raised[at] for at in some if at in own.raised}, refused=frozenset())


def _sizes(tally: Tally, count: int) -> list[int]:
    one = tally.functions[0]
    if isinstance(one, KeptSamples):
        group = torch.cat([groups for groups in one.groups if groups is not None])
        return torch.bincount(group, minlength=count).tolist()
    assert one.groups is not None
    places = torch.arange(count * one.group_cells) // one.group_cells
    counts = torch.zeros(count, dtype=torch.int64).scatter_add_(0, places, one.groups.counts[: len(places)])
    return counts.tolist()


def _order(key: Sequence[Any]) -> tuple[tuple[bool, str, Any], ...]:
    """GroupKeys of one type in their own order, those without a value last."""
    return tuple((part is None or part != part, type(part).__name__, "" if part is None else part) for part in key)


def _given(function: ScoredFunction) -> str:
    names = [parameter.name for parameter in required(function.fn)]
    names = names if len(names) == len(function.columns) else ["" for _ in function.columns]
    pairs = zip(names, function.columns, strict=True)
    return f"{function.name}({', '.join(_pair(name, own) for name, own in pairs)})"


def _pair(name: str, columns: str | tuple[str, ...]) -> str:
    shown = columns if isinstance(columns, str) else f"[{columns[0]} … {columns[-1]}]"
    return shown if name in ("", shown) else f"{name}={shown}"
