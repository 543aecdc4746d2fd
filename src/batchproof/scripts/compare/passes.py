"""The passes of one accumulator as readings: a function that trains and evaluates has two numbers, not one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from batchproof.scripts.compare.reading import PassReading
from batchproof.scripts.run import TOLERANCE, Epoch, MeasuredAccumulator, Phase

#: Whether a pass trains, and the length of its data: passes that differ in one of them are of another number.
Kind = tuple[bool, int | None]


def readings_of(row: MeasuredAccumulator) -> Iterator[PassReading]:
    """A reading for each pass that reported something, numbered anew for each kind of pass."""
    kinds = list(dict.fromkeys(map(_kind, row.epochs)))
    counts = dict.fromkeys(kinds, 0)
    for epoch in row.epochs:
        kind = _kind(epoch)
        counts[kind] += 1
        name, aliases = _names(row, kinds, kinds.index(kind))
        reading = _reading(row, epoch, _phase(row, kinds, kind), name, aliases, counts[kind])
        if reading is not None:
            yield reading


def _kind(epoch: Epoch) -> Kind:
    return epoch.updates > 0, epoch.dataset


def _phase(row: MeasuredAccumulator, kinds: list[Kind], kind: Kind) -> Phase:
    """A loop that does both has no phase of its own."""
    trains = [trains for trains, _ in kinds]
    if all(trains) or not any(trains):
        return row.phase
    return "training" if kind[0] else "evaluation"


def _names(row: MeasuredAccumulator, kinds: list[Kind], index: int) -> tuple[str, tuple[str, ...]]:
    """The callers' own names, in the order of their calls, where each kind of pass has one."""
    if len(kinds) == 1:
        return row.name, row.names
    given = [name for name in row.names if name != row.accumulator]
    if len(given) >= len(kinds):
        return given[index], (given[index],)
    trains, length = kinds[index]
    twice = sum(kind[0] == trains for kind in kinds) > 1
    return f"{row.name}, {'training' if trains else 'evaluation'}{f' on {length}' if twice else ''}", row.names


def _reading(
    row: MeasuredAccumulator, epoch: Epoch, phase: Phase, name: str, aliases: tuple[str, ...], number: int
) -> PassReading | None:
    """None where nothing was reported; a number that is not finite is not in the file, but that a batch had none is."""
    if epoch.printed is None and not epoch.undefined:
        return None
    return PassReading(
        name,
        phase,
        number,
        row.place,
        math.nan if epoch.printed is None else epoch.printed,
        _averaged(epoch),
        epoch.weighted,
        epoch.exact,
        epoch.settled,
        epoch.batches,
        epoch.samples,
        epoch.dataset,
        row.why,
        row.cause,
        row.remedy,
        epoch.reason,
        bool(row.is_sum),
        bool(row.trains_on_sum) and phase == "training",
        epoch.updates,
        aliases,
    )


def _averaged(epoch: Epoch) -> float | None:
    """With the script's weights; where those were not seen, the average that the printed number is."""
    if epoch.printed is None or epoch.weighted is None:
        return epoch.averaged
    is_weighted = abs(epoch.printed - epoch.weighted) <= TOLERANCE * abs(epoch.weighted)
    return epoch.weighted if is_weighted else epoch.averaged
