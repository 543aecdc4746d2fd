"""What a run measured, as plain frozen data that turns into JSON and back.  Nothing here needs torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from batchproof.errors import BatchproofError
from batchproof.ground.place import Place
from batchproof.report.result import Result, from_plain
from batchproof.scripts.run.control import Control

Phase = Literal["training", "evaluation", "unknown"]
#: Where results go unless another file is named.
DEFAULT = Path(".batchproof") / "run.json"
#: Relative difference below which two values are the same: single precision, added up in another order.
TOLERANCE = 2e-6


_TITLES = {
    "broadcast": "shapes that do not match",
    "statistics": "BatchNorm in training mode in evaluation",
    "duplicates": "samples drawn twice",
    "undefined": "batches without a value",
    "skipped": "batches skipped",
    "dropped": "a short last batch dropped",
    "accumulation": "gradients accumulated",
}


@dataclass(frozen=True)
class RankValues:
    """One pass of all ranks together, each number with one cause fewer than the one before.

    Attributes:
        ranks: how many processes.
        printed: what the script reports.
        own: the first rank's batches averaged, with the script's weights.
        mean: the mean of what that is on each rank.
        averaged: all ranks' batches averaged, with the script's weights.
        weighted: the same, each batch weighted by the number of its samples.
        with_copies: the quantity on all ranks' samples together, with those that a sampler repeats.
        exact: without them.
        samples: how many samples all ranks have, copies among them.
        copies: how many of them are copies.
        reason: why there is no exact value, as half a sentence; empty where there is one.
    """

    ranks: int
    printed: float | None
    own: float | None = None
    mean: float | None = None
    averaged: float | None = None
    weighted: float | None = None
    with_copies: float | None = None
    exact: float | None = None
    samples: int = 0
    copies: int = 0
    reason: str = ""

    @property
    def kind(self) -> str:
        """What is printed; empty where it is none of the numbers.

        An ``"exact"`` number, one of all samples ``"with copies"`` or of ``"all"`` batches, a ``"mean"`` of the ranks'
        own, or the first rank's ``"own"``.
        """
        for kind, value in (
            ("exact", self.exact),
            ("with copies", self.with_copies),
            ("all", self.averaged),
            ("mean", self.mean),
            ("own", self.own),
        ):
            if value is not None and self.printed is not None and _is_near(self.printed, value):
                return kind
        return ""

    @property
    def parts(self) -> dict[str, float]:
        """What each cause that ranks bring in adds to what is printed; empty where that is not known."""
        if None in (self.mean, self.averaged, self.weighted, self.with_copies, self.exact) or not self.kind:
            return {}
        assert self.printed is not None
        assert self.mean is not None
        assert self.averaged is not None
        assert self.with_copies is not None
        assert self.exact is not None
        is_of_ranks = self.kind in ("mean", "own")
        return {
            "one rank": self.printed - self.mean if self.kind == "own" else 0.0,
            "mean of ranks": self.mean - self.averaged if is_of_ranks else 0.0,
            "copies": 0.0 if self.kind == "exact" else self.with_copies - self.exact,
        }


def _is_near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=5e-6)


@dataclass(frozen=True)
class Epoch:
    """One pass over a loader: from an accumulator's first value to the average that is reported.

    Attributes:
        number: from 1 on, for each accumulator of its own.
        printed: the number that the script computed.
        exact: the same quantity on all of the pass's samples together; None where it is not known.
        mean: the mean of the batches' values, each of the same weight.
        weighted: the same, each batch weighted by the number of its samples; None where that number is not known.
        averaged: the same with the weights that the script gives them.
        settled: exact, on the same samples with the weights as they are when the pass ends; None unless asked for.
        sizes: how many samples the batches had, as runs of equal ones: ``((16, 27), (10, 1))``.
        steps: how often the loop's body began.
        updates: optimizer steps in it.
        loader: how many batches the loader says it has.
        dataset: how many samples the loader's data has.
        undefined: batches whose value is NaN or infinite.
        duplicates: samples that the sampler drew more than once.
        rank: which process measured it.
        reason: why there is no exact value, as half a sentence; empty where there is one.
        ranks: what several ranks make of it together; None where one process trains, or their samples are not known.
    """

    number: int
    printed: float | None
    exact: float | None
    mean: float | None
    weighted: float | None
    averaged: float | None
    settled: float | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    steps: int = 0
    updates: int = 0
    loader: int | None = None
    dataset: int | None = None
    undefined: int = 0
    duplicates: int = 0
    rank: int = 0
    reason: str = ""
    ranks: RankValues | None = None
    DERIVED: ClassVar[dict[str, Any]] = {"difference": float | None, "samples": int, "batches": int}

    @property
    def batches(self) -> int:
        """How many were added."""
        return sum(count for _, count in self.sizes)

    @property
    def samples(self) -> int:
        """How many were added."""
        return sum(size * count for size, count in self.sizes)

    @property
    def size(self) -> int:
        """Of the largest batch."""
        return max((size for size, _ in self.sizes), default=0)

    @property
    def difference(self) -> float | None:
        """What the script printed, less the exact value; 0 where they differ by rounding only."""
        if self.printed is None or self.exact is None:
            return None
        if self.is_exact:
            return 0.0
        return self.printed - self.exact

    @property
    def error(self) -> float | None:
        """By what fraction of the exact value the printed one is off."""
        difference = self.difference
        if difference is None or self.exact is None:
            return None
        return (
            difference / abs(self.exact) if self.exact else math.copysign(math.inf, difference) if difference else 0.0
        )

    @property
    def is_exact(self) -> bool | None:
        """Whether the printed value is the exact one, but for rounding; None where that is not known."""
        if self.printed is None or self.exact is None:
            return None
        if math.isnan(self.printed) or math.isnan(self.exact):
            return math.isnan(self.printed) and math.isnan(self.exact)
        size = max(abs(self.exact), abs(self.mean or 0.0))
        return self.printed == self.exact or abs(self.printed - self.exact) <= TOLERANCE * size


@dataclass(frozen=True)
class MeasuredAccumulator:
    """One accumulator of the script.

    Attributes:
        name: as it is reported: ``"train_loss"``.
        accumulator: as it is added up: ``"total_loss"``.
        names: all that its average goes by.
        place: the statement that adds a batch.
        phase: whether the weights change on the way.
        quantity: what a batch contributes, in words.
        is_sum: whether a batch's value is a sum over its samples; None where that was not measured.
        trains_on_sum: whether what is trained on is a sum over the batch; None where it is no multiple of this value,
            or was not looked at.
        why: why the mean of batches is something else than the exact value, as half a sentence; may be empty.
        cause: the line that makes it so; None where it is not known.
        remedy: what to write instead; may be empty.
        epochs: one for each pass.
    """

    name: str
    accumulator: str
    names: tuple[str, ...]
    place: Place
    phase: Phase
    quantity: str
    is_sum: bool | None = None
    trains_on_sum: bool | None = None
    why: str = ""
    cause: Place | None = None
    remedy: str = ""
    epochs: tuple[Epoch, ...] = ()

    @property
    def last(self) -> Epoch:
        """The last pass."""
        return self.epochs[-1]

    @property
    def shown(self) -> tuple[Epoch, ...]:
        """The last pass of each batch size."""
        return tuple({epoch.size: epoch for epoch in self.epochs}.values())

    @property
    def wrong(self) -> tuple[Epoch, ...]:
        """Those of them whose printed value is not the exact one."""
        return tuple(epoch for epoch in self.shown if epoch.is_exact is False)


@dataclass(frozen=True)
class Observation:
    """Something that only a run shows.

    Attributes:
        kind: which, in a word: ``"updates"``, ``"duplicates"``, ``"skipped"``, ``"undefined"``, ``"broadcast"``,
            ``"dropped"``, ``"statistics"``, ``"reads"``, ``"accumulation"``, ``"unmeasured"``.
        what: what happens, as a sentence without its full stop.
        place: where.
        harmless: whether it is said for information only.
        remedy: what to write instead; may be empty.
    """

    kind: str
    what: str
    place: Place | None = None
    harmless: bool = True
    remedy: str = ""

    @property
    def title(self) -> str:
        """The kind in a few words."""
        return _TITLES.get(self.kind, self.kind)


@dataclass(frozen=True)
class Reported:
    """A number that was asked for by name.

    Attributes:
        name: the variable or key.
        values: each value that it was given.
        place: where it was given the last one.
    """

    name: str
    values: tuple[float, ...]
    place: Place


@dataclass(frozen=True, repr=False)
class ScriptRun(Result):
    """What a script reported, and what it should have.

    >>> from batchproof.scripts.run.result import Epoch, MeasuredAccumulator, Place, ScriptRun
    >>> epoch = Epoch(1, printed=0.8, exact=1.0, mean=0.8, weighted=0.8, averaged=0.8, sizes=((4, 2),))
    >>> place = Place("train.py", 7)
    >>> row = MeasuredAccumulator("loss", "total", ("loss",), place, "training", "a mean", epochs=(epoch,))
    >>> run = ScriptRun("train.py", measured=(row,))
    >>> run.exit_status, ScriptRun.from_dict(run.to_dict()) == run
    (1, True)

    Attributes:
        script: as it was typed, with its arguments.
        measured: one for each accumulator, in the order of their lines.
        seen: what only a run shows.
        reported: the number that was asked for by name.
        control: what was held fixed; empty where the script ran as it is.
        updates: optimizer steps in each pass over a training loader.
        steps: optimizer steps in all.
        learning_rate: of the first step, as the script set it; None where no optimizer stepped.
        follows_scale: whether that optimizer's steps are as long as the gradient is; None where none stepped.
        scheduled: whether the learning rate changed on the way.
        loaders: how many loaders were built.
        seconds: how long the script ran.
        status: its exit status.
        failed: the last line of the error that ended it; empty where it came to its end.
        places: how many places were looked at, whether they ran or not.
        world: how many processes trained together.
        notes: what else to know.
        fix: commands that repair numbers that are not exact; empty where none does.
    """

    script: str
    measured: tuple[MeasuredAccumulator, ...] = ()
    seen: tuple[Observation, ...] = ()
    reported: Reported | None = None
    control: Control = field(default_factory=Control)
    updates: tuple[int, ...] = ()
    steps: int = 0
    learning_rate: float | None = None
    follows_scale: bool | None = None
    scheduled: bool = False
    loaders: int = 0
    seconds: float = 0.0
    status: int = 0
    failed: str = ""
    places: int = 0
    world: int = 1
    notes: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    SCHEMA: ClassVar[str] = "batchproof/run/1"

    @property
    def wrong(self) -> tuple[MeasuredAccumulator, ...]:
        """Those that printed a value that is not the exact one."""
        return tuple(row for row in self.measured if row.wrong)

    @property
    def exit_status(self) -> int:
        """0: every number that was measured is exact.  1: one is not.  2: none could be measured."""
        if self.wrong:
            return 1
        return 0 if any(epoch.is_exact for row in self.measured for epoch in row.shown) else 2

    @staticmethod
    def unwritable(number: float) -> str:
        """NaN is ``"nan"``, infinity ``"inf"``: the data is read again."""
        return str(number)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ScriptRun:
        """What `to_dict` gave."""
        run: ScriptRun = from_plain(cls, data)
        return run


def load(path: Path) -> ScriptRun:
    """Read what a run wrote.

    Raises:
        BatchproofError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise BatchproofError(f"there is no {path}; `batchproof run SCRIPT` writes one")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        written = data.get("schema", ScriptRun.SCHEMA)
        if written != ScriptRun.SCHEMA:
            raise BatchproofError(f"{path} holds {written}, and this version of batchproof reads {ScriptRun.SCHEMA}")
        return ScriptRun.from_dict(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BatchproofError(f"{path} was not written by batchproof run ({type(error).__name__}: {error})") from error
