"""What one run is asked for, and what it gives back.  Plain data that turns into JSON: it is kept between comparisons.

A run is one fresh process in which the script runs as ``__main__`` at one batch size and from one seed, either as it
is or with something held fixed: the number of updates, the learning rate, what evaluation scores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from batchproof.ground.place import Place
from batchproof.scripts.compare.passes import readings_of
from batchproof.scripts.compare.reading import PassReading
from batchproof.scripts.run import Control, Mend, Observation, ScriptRun

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
