"""What one run is asked for, and what it gives back.  Plain data that turns into JSON: it is kept between comparisons.

A run is one fresh process in which the script runs as ``__main__`` at one batch size and from one seed, either as it
is or with something held fixed: the number of updates, the learning rate, what evaluation scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from batchproof.ground.place import Place
from batchproof.scripts.run import TOLERANCE, Control, Epoch, MeasuredAccumulator, Mend, Observation, Phase, ScriptRun

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
        mends: what evaluation does right although the script does not.
        again: the same run once more, to see whether it gives the same numbers.
    """

    batch_size: int
    seed: int = 0
    updates: tuple[int, ...] = ()
    learning_rate: float = 1.0
    mends: tuple[Mend, ...] = ()
    again: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the script runs as it is."""
        return replace(self, seed=0, again=False) == Setting(self.batch_size)

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
            mends=self.mends,
            last_weights=True,
            report=report,
        )

    def __str__(self) -> str:
        parts = [f"batch size {self.batch_size}", f"seed {self.seed}" if self.seed else ""]
        parts.append("as many updates" if self.updates else "")
        parts.append(f"learning rate x {self.learning_rate:.3g}" if self.learning_rate != 1 else "")
        parts.append("evaluation put right" if self.mends else "")
        parts.append("once more" if self.again else "")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class RunOutcome:
    """What a run gave.

    Attributes:
        setting: what was asked for.
        readings: accumulator by accumulator, each with all its passes.
        updates: optimizer steps in each pass over a training loader.
        steps: optimizer steps in all: also in loops that are not the script's own.
        learning_rate: of the first step, before it was multiplied; None where no optimizer stepped.
        follows_scale: whether that optimizer's steps are as long as the gradient is.
        seen: what only a run shows.
        loaders: how many loaders the script built.
        scheduled: whether the learning rate changed on the way.
        places: how many places that average were found in its source, whether they ran or not.
        failed: the error's last line; empty where the script came to its end.
        seconds: how long it took.
        cached: whether it was read from an earlier comparison.
        notes: what else to know.
    """

    setting: Setting
    readings: tuple[PassReading, ...] = ()
    updates: tuple[int, ...] = ()
    steps: int = 0
    learning_rate: float | None = None
    follows_scale: bool = True
    seen: tuple[Observation, ...] = ()
    loaders: int = 0
    scheduled: bool = False
    places: int = 0
    failed: str = ""
    seconds: float = 0.0
    cached: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: ScriptRun, setting: Setting) -> RunOutcome:
        """From what a run wrote."""
        readings = [reading for row in run.measured for reading in readings_of(row)]
        named = run.reported
        if named is not None and all(named.name not in reading.aliases for reading in readings):
            readings += [
                PassReading(named.name, "unknown", epoch, named.place, value, is_named=True)
                for epoch, value in enumerate(named.values, start=1)
            ]
        return cls(
            setting,
            tuple(readings),
            updates=run.updates,
            steps=run.steps,
            learning_rate=run.learning_rate,
            follows_scale=run.follows_scale is not False,
            seen=run.seen,
            loaders=run.loaders,
            scheduled=run.scheduled,
            places=run.places,
            failed=run.failed or (f"exit status {run.status}" if run.status else ""),
            seconds=run.seconds,
            notes=run.notes,
        )

    def to_dict(self) -> dict[str, Any]:
        """Data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunOutcome:
        """What `to_dict` gave."""
        setting = dict(data["setting"])
        setting.update(updates=tuple(setting["updates"]), mends=tuple(setting["mends"]))
        return cls(
            **{
                **data,
                "setting": Setting(**setting),
                "readings": tuple(map(_reading_from, data["readings"])),
                "seen": tuple(Observation(**_placed(entry, "place")) for entry in data["seen"]),
                "updates": tuple(data["updates"]),
                "notes": tuple(data["notes"]),
            }
        )


def _reading_from(entry: dict[str, Any]) -> PassReading:
    return PassReading(**{**_placed(entry, "place", "cause"), "aliases": tuple(entry["aliases"])})


def _placed(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**entry, **{name: Place(**entry[name]) if entry[name] is not None else None for name in names}}


@dataclass(frozen=True)
class PassReading:
    """One reported number of one pass over a loader, and what else could have been reported of the same batches.

    Attributes:
        name: as the script calls it: ``"train_loss"``.
        phase: whether the weights changed on the way.
        epoch: which of the script's passes, from 1 on.
        place: the statement that adds a batch.
        reported: the number that the script computed.
        averaged: the batches' own values, averaged with the script's weights: equal ones where it has none.
        weighted: the same, averaged by how many samples each batch has.
        exact: the function on all predictions together; None where it has no exact value.
        settled: exact, on the same samples with the weights as they are after the pass; None where it was not measured.
        batches: how many.
        samples: how many.
        dataset: how many samples the loader's data has; None where that is not known.
        why: why the mean of batches is something else than the exact value, as half a sentence.
        cause: the line that makes it so.
        remedy: what to write instead.
        no_exact: why there is no exact value.
        updates: optimizer steps on the way.
        is_named: whether it is a variable's or a key's value that was asked for, and no average that was recognised.
        aliases: all that it goes by.
        is_sum: whether a batch's value is a sum over its samples.
        trains_on_sum: whether the loss that is trained on, of which this is a multiple, is a sum over the batch.
    """

    name: str
    phase: Phase
    epoch: int
    place: Place | None
    reported: float
    averaged: float | None = None
    weighted: float | None = None
    exact: float | None = None
    settled: float | None = None
    batches: int = 0
    samples: int = 0
    dataset: int | None = None
    why: str = ""
    cause: Place | None = None
    remedy: str = ""
    no_exact: str = ""
    is_sum: bool = False
    trains_on_sum: bool = False
    updates: int = 0
    aliases: tuple[str, ...] = ()
    is_named: bool = False

    @property
    def left_out(self) -> int:
        """Samples of the data that were not scored."""
        return max(0, (self.dataset or 0) - self.samples)


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
