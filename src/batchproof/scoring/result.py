"""What ``score`` found, as plain frozen data. Nothing here reads anything, and nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from batchproof.ground.place import Place
from batchproof.report.result import Result

if TYPE_CHECKING:
    import pyarrow

Over = Literal["dataset", "samples"]


@dataclass(frozen=True)
class AverageOfParts:
    """What averaging the values of parts of the data would have said.

    Attributes:
        what: The parts: ``"files"``, ``"row groups"``, or ``"equal parts"`` where the data is in one piece.
        parts: How many there are.
        mean: The mean of their values; NaN where one has none.
        off: How far that is from the value on all samples, as a fraction of it; NaN where that is 0.
    """

    what: str
    parts: int
    mean: float
    off: float


@dataclass(frozen=True)
class Number:
    """One number that a function gives.

    Attributes:
        function: The function's name.
        component: Which of its numbers: ``"['f1']"``; empty where it gives one.
        value: On all samples; float64.
        standard_error: In the unit of the value; NaN where there is none.
        averaged: What averaging parts would have said; None where there is one part alone.
        place: Where the function is defined.
        kept: Why its samples were kept; empty where a state of constant size was enough.
    """

    function: str
    component: str
    value: float
    standard_error: float
    averaged: AverageOfParts | None = None
    place: Place | None = None
    kept: str = ""

    @property
    def name(self) -> str:
        """What it is called: ``rmse``, ``report['f1']``."""
        return f"{self.function}{self.component}"


@dataclass(frozen=True)
class GroupScore:
    """One group.

    Attributes:
        key: Its value in each of the columns that groups are made of.
        rows: Its samples.
        values: For each number of the result its value on them; NaN where the function raised.
        standard_errors: Of these; NaN where there is none.
    """

    key: tuple[Any, ...]
    rows: int
    values: tuple[float, ...]
    standard_errors: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class Scores(Result):
    """The exact values of functions on all samples of a data set, and on each of its groups.

    >>> import batchproof, torch
    >>> data = {"pred": torch.tensor([1.0, 2.0, 5.0]), "real": torch.tensor([1.0, 4.0, 4.0]), "user": [0, 0, 1]}
    >>> def mae(pred, real):
    ...     return (pred - real).abs().mean()
    >>> found = batchproof.score(data, mae, by="user")
    >>> found.value, [group.values for group in found.groups]
    (1.0, [(1.0,), (1.0,)])

    Attributes:
        data: What was scored: a path, or ``"a table"``.
        numbers: One for each number that the functions give.
        rows: Samples that were used.
        over: The value on all samples together, or the mean of their own values.
        by: The columns that groups are made of.
        groups: In the order of their keys, as far as they have one.
        columns: For each function and parameter the column that it was given, as ``"rmse(pred=forecast)"``.
        pieces: What was read, in pieces: files, or row groups.
        dropped: Samples left out because of a null.
        not_a_number: Samples that hold NaN.
        engine: What folded the data: ``"2 threads"``, ``"Ray, 4 nodes"``.
        raised: The first of the errors that a function raised on groups, with how many.
        notes: What else to know.
        interrupted: Whether Ctrl-C ended it before all was read: the values are those of the rows so far.
        seconds: How long it took.
    """

    data: str
    numbers: tuple[Number, ...]
    rows: int
    over: Over = "dataset"
    by: tuple[str, ...] = ()
    groups: tuple[GroupScore, ...] = ()
    columns: tuple[str, ...] = ()
    pieces: int = 1
    dropped: int = 0
    not_a_number: int = 0
    engine: str = ""
    raised: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    seconds: float = 0.0
    SCHEMA: ClassVar[str] = "batchproof/score/1"

    @property
    def value(self) -> float:
        """The first number, on all samples."""
        return self.numbers[0].value

    @property
    def standard_error(self) -> float:
        """The standard error of the first number."""
        return self.numbers[0].standard_error

    @property
    def exit_status(self) -> int:
        """0: every number has a value.  2: one has none."""
        return 0 if all(math.isfinite(number.value) for number in self.numbers) else 2

    def to_arrow(self) -> pyarrow.Table:
        """The groups as a pyarrow table: the columns that they are made of, the rows, each number and its error.

        Without groups, the table has one row, of the whole.
        """
        import pyarrow as pa

        found = self.groups or (GroupScore((), self.rows, *self._whole()),)
        table: dict[str, Any] = {
            name: pa.array([group.key[place] for group in found]) for place, name in enumerate(self.by)
        }
        table["rows"] = pa.array([group.rows for group in found], pa.int64())
        for place, number in enumerate(self.numbers):
            table[number.name] = pa.array([group.values[place] for group in found], pa.float64())
            errors = [group.standard_errors[place] for group in found]
            table[f"{number.name} standard error"] = pa.array(errors, pa.float64())
        return pa.table(table)

    def _whole(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (
            tuple(number.value for number in self.numbers),
            tuple(number.standard_error for number in self.numbers),
        )
