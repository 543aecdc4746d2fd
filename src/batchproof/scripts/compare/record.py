"""What one run is asked for, and what it gives back.  Plain data that turns into JSON: it is kept between comparisons.

A run is one fresh process in which the script runs as ``__main__`` at one batch size and from one seed, either as it
is or with something held fixed: the number of updates, the learning rate, what evaluation scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from batchproof.ground.place import Place
from batchproof.ground.text import counted
from batchproof.scripts.run import TOLERANCE, Control, Epoch, MeasuredAccumulator, Phase, Repair, ScriptRun

#: What the runs of a comparison differ in.
Axis = Literal["batch size", "ranks"]
#: What `Run.seen` calls statistics of the batch in an evaluated model.
STATISTICS = "statistics"


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes:
        batch_size: of every loader that the script builds, or what ``{batch_size}`` in its arguments becomes.
        seed: of torch, Python and NumPy before the script's first line.
        updates: optimizer steps that each pass over a training loader makes; empty leaves the script its own.
        learning_rate: what every step's learning rate is multiplied by.
        repairs: what evaluation does right although the script does not.
        again: the same run once more, to see whether it gives the same numbers.
        ranks: how many processes ``torchrun`` starts, each of which has batches of that size; 0 runs the script itself.
    """

    batch_size: int
    seed: int = 0
    updates: tuple[int, ...] = ()
    learning_rate: float = 1.0
    repairs: tuple[Repair, ...] = ()
    again: bool = False
    ranks: int = 0

    @property
    def column(self) -> int:
        """What the run is compared by."""
        return self.ranks or self.batch_size

    @property
    def plain(self) -> Setting:
        """The script as it is, at this batch size on as many ranks, from the first seed."""
        return Setting(self.batch_size, ranks=self.ranks)

    @property
    def is_plain(self) -> bool:
        """Whether the script runs as it is."""
        return replace(self, seed=0, again=False) == self.plain

    def control(self, sets_batch_size: bool, report: str | None) -> Control:
        """What the run is told.

        Args:
            sets_batch_size: as the loaders are built; otherwise the script's arguments say it.
            report: a number that is wanted by name.
        """
        return Control(
            batch_size=self.batch_size if sets_batch_size else None,
            seed=self.seed,
            updates=self.updates,
            learning_rate=self.learning_rate,
            repairs=self.repairs,
            last_weights=not self.ranks,  # a model of several ranks cannot be asked by one of them alone
            report=report,
        )

    def __str__(self) -> str:
        ranks = f"{counted(self.ranks, 'rank')}, " if self.ranks else ""
        parts = [f"{ranks}batch size {self.batch_size}", f"seed {self.seed}" if self.seed else ""]
        parts.append("as many updates" if self.updates else "")
        parts.append(f"learning rate x {self.learning_rate:.3g}" if self.learning_rate != 1 else "")
        parts.append("evaluation put right" if self.repairs else "")
        parts.append("once more" if self.again else "")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class PassReading:
    """One reported number of one pass over a loader, and what else could have been reported of the same batches.

    Attributes:
        name: as the script calls it: ``"train_loss"``.
        phase: whether the weights changed on the way.
        epoch: which of the script's passes, from 1 on.
        place: the statement that adds a batch, or gives a value to what was asked for by name.
        values: what was measured of the pass.
        row: the accumulator; None for a variable or key that was asked for, and no average that was recognised.
        aliases: all that it goes by.
    """

    name: str
    phase: Phase
    epoch: int
    place: Place | None
    values: Epoch
    row: MeasuredAccumulator | None = None
    aliases: tuple[str, ...] = ()

    @property
    def reported(self) -> float:
        """The number that the script computed; NaN where its batches have none."""
        return math.nan if self.values.printed is None else self.values.printed

    @property
    def averaged(self) -> float | None:
        """With the script's weights; where those were not seen, the average that the printed number is."""
        printed, weighted = self.values.printed, self.values.weighted
        if printed is None or weighted is None:
            return self.values.averaged
        is_weighted = abs(printed - weighted) <= TOLERANCE * abs(weighted)
        return weighted if is_weighted else self.values.averaged

    @property
    def left_out(self) -> int:
        """Samples of the data that were not scored."""
        ranks = self.values.ranks
        scored = self.values.samples if ranks is None else ranks.samples - ranks.copies
        return max(0, (self.values.dataset or 0) - scored) if scored else 0

    @property
    def is_sum(self) -> bool:
        """Whether a batch's value is a sum over its samples."""
        return self.row is not None and bool(self.row.is_sum)

    @property
    def trains_on_sum(self) -> bool:
        """Whether the loss that is trained on, of which this is a multiple, is a sum over the batch."""
        return self.row is not None and bool(self.row.trains_on_sum) and self.phase == "training"


@dataclass(frozen=True)
class RunOutcome:
    """What a run gave.

    Attributes:
        setting: what was asked for.
        run: what it wrote; nothing where it was ended before.
        failed: the error's last line; empty where the script came to its end.
        cached: whether it was read from an earlier comparison.
        written: what it wrote outside of the folder that it had for itself.
        unknowable: why it is not kept; empty where it may be.
    """

    setting: Setting
    run: ScriptRun = field(default_factory=lambda: ScriptRun(""))
    failed: str = ""
    cached: bool = False
    written: tuple[str, ...] = ()
    unknowable: str = ""

    @cached_property
    def readings(self) -> list[PassReading]:
        """Accumulator by accumulator, each with all its passes; last what was asked for by name."""
        return self.readings_like(self)

    def readings_like(self, other: RunOutcome) -> list[PassReading]:
        """The readings, by the names that another run gives them."""
        known = {(row.place, row.accumulator): _kinds(row) for row in other.run.measured}
        readings = [
            reading
            for row in self.run.measured
            for reading in readings_of(row, known.get((row.place, row.accumulator), ()))
        ]
        named = self.run.reported
        if named is not None and all(named.name not in reading.aliases for reading in readings):
            for epoch, value in enumerate(named.values, start=1):
                values = Epoch(epoch, value, None, None, None, None)
                readings.append(PassReading(named.name, "unknown", epoch, named.place, values))
        return readings


#: Whether a pass trains, and the length of its data: passes that differ in one of them are of another number.
Kind = tuple[bool, int | None]


def readings_of(row: MeasuredAccumulator, known: Sequence[Kind] = ()) -> Iterator[PassReading]:
    """A reading for each pass that reported something, numbered anew for each kind of pass.

    Args:
        row: the accumulator.
        known: its kinds of passes; a pass of none of them is the one on the same data, as a training pass is that has
            too few batches for an update. None where they are its own.
    """
    kinds = [*(known or _kinds(row))]
    counts: Counter[Kind] = Counter()
    for epoch in row.epochs:
        kind = _kind(epoch)
        other = (not kind[0], kind[1])
        if kind not in kinds and epoch.ranks is not None:  # the length of a rank's own data says nothing
            alike = [each for each in kinds if each[0] == kind[0]]
            kind = alike[0] if len(alike) == 1 else kind
        if kind not in kinds and other in kinds:
            kind = other
        elif kind not in kinds:
            kinds.append(kind)
        counts[kind] += 1
        name, aliases = _names(row, kinds, kinds.index(kind))
        if epoch.printed is not None or epoch.undefined:
            values = _of_all_ranks(epoch)
            yield PassReading(name, _phase(row, kinds, kind), counts[kind], row.place, values, row, aliases)


def _of_all_ranks(epoch: Epoch) -> Epoch:
    """A pass of several ranks with what is known of all their samples, and no exact value where that is not enough."""
    ranks = epoch.ranks
    if ranks is None:
        return epoch
    if ranks.exact is not None and not ranks.parts:
        reason = "how the ranks' numbers are combined was not recognised"
        return replace(epoch, exact=None, settled=None, weighted=None, averaged=None, reason=reason)
    is_whole = ranks.kind in ("exact", "with copies")  # nothing is averaged
    return replace(
        epoch,
        printed=ranks.printed,
        exact=ranks.exact,
        settled=None,
        weighted=ranks.printed if is_whole else ranks.weighted,
        averaged=ranks.printed if is_whole else ranks.averaged,
        reason=ranks.reason,
    )


def _kinds(row: MeasuredAccumulator) -> list[Kind]:
    return list(dict.fromkeys(map(_kind, row.epochs)))


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
