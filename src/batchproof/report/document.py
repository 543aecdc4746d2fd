"""A report as data: what HTML and PNG show, whatever verb it came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from batchproof.report.chart import Chart

if TYPE_CHECKING:
    from batchproof.ground.place import Place


@dataclass(frozen=True)
class Reason:
    """Why: the line of code, what it does, and what to do instead.

    Attributes:
        title: In a few words.
        text: A sentence without its full stop.
        place: The line of code.
        remedy: What to do instead.
        is_extra: Whether a terminal says it only with ``-v``.
    """

    title: str
    text: str
    place: Place | None = None
    remedy: str = ""
    is_extra: bool = False


#: How a column, a row or a cell stands out in a terminal.
Tone = Literal["plain", "faint", "strong", "expected", "notable", "answer", "tried", "wrong"]


@dataclass(frozen=True)
class Column:
    """A column of a table, as text.

    Attributes:
        title: Above it.
        cells: One for each row.
        tone: How it stands out.
        tones: How its cells stand out, where they differ.
        is_left: Whether it is set at the left, as words are.
        is_name: Whether its cells may be cut: a name is known by its beginning.
        is_path: Whether its cells may be cut to what room the others leave: a dotted name is known by its end.
    """

    title: str
    cells: tuple[str, ...]
    tone: Tone = "plain"
    tones: tuple[Tone, ...] = ()
    is_left: bool = False
    is_name: bool = False
    is_path: bool = False


@dataclass(frozen=True)
class Shares:
    """How much each row makes up of a figure in one of the columns.

    Attributes:
        title: Above them.
        column: Which column has that figure.
        values: One for each row; None for a row that is no part of it.
    """

    title: str
    column: int
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class RowLook:
    """How a row of a stacked table stands in a terminal.

    Attributes:
        tone: How it stands out.
        section: Sections are set apart.
        is_optional: Whether it is left out where it repeats the first group's row.
    """

    tone: Tone = "plain"
    section: int = 0
    is_optional: bool = False


@dataclass(frozen=True)
class Group:
    """Columns that belong together.

    Attributes:
        title: Over all of them.
        columns: From left to right.
        note: Added to the title, in brackets, where it is no longer than the columns.
        bars: A bar for each row, as a share of the longest: a terminal draws them where it has room.
        headline: What these columns say, in a sentence.
        shares: What a terminal writes and draws beside the columns of a stacked table, where it has room.
    """

    title: str
    columns: tuple[Column, ...]
    note: str = ""
    bars: tuple[float, ...] = ()
    headline: str = ""
    shares: Shares | None = None

    @property
    def full_title(self) -> str:
        """With the note."""
        return f"{self.title} ({self.note})" if self.note else self.title

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


@dataclass(frozen=True)
class Sheet:
    """A table with a row for each batch size, or for what ``label`` says.

    Attributes:
        sizes: What the rows are called.
        groups: The columns.
        marked: Which row is the reader's own.
        label: What the rows are.
        in_words: Whether the rows have names, indented by what they belong to.
        narrow: The table to show in place of this one where a line has no room for it.
        is_stacked: Whether a terminal shows group below group across its whole width, before the reasons.
        looks: How its rows stand in a stacked table; empty where the columns' tones say it.
        notes: What is said of each row behind its last figure, or below it; empty where nothing is.
    """

    sizes: tuple[str, ...]
    groups: tuple[Group, ...]
    marked: int | None = None
    label: str = "batch size"
    in_words: bool = False
    narrow: Sheet | None = None
    is_stacked: bool = False
    looks: tuple[RowLook, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def filled(self) -> Sheet:
        """Without the columns that say nothing."""
        groups = (
            replace(group, columns=tuple(column for column in group.columns if any(column.cells)))
            for group in self.groups
        )
        return replace(self, groups=tuple(group for group in groups if group.columns))


@dataclass(frozen=True)
class Aside:
    """What else to know, under a label.

    Attributes:
        label: In a few letters.
        text: In running words.
        title: The label where there is room for a longer one.
        place: The line that it is about.
        is_warning: Whether it qualifies all the rest.
        row: The row of a stacked table below which a terminal says it.
    """

    label: str
    text: str
    title: str = ""
    place: Place | None = None
    is_warning: bool = False
    row: int | None = None


@dataclass(frozen=True)
class WaterfallPart:
    """What one cause adds to a difference.

    Attributes:
        kind: Parts of one kind stand together: ``"real"``, ``"bug"``.
        label: The cause.
        amount: How much, as text.
        error: One standard error of it, as text; empty where there is none.
        value: The amount as a number; its bar is that long, to the right where it is above zero.
        tone: How it stands out.
    """

    kind: str
    label: str
    amount: str
    error: str
    value: float
    tone: Tone = "plain"


@dataclass(frozen=True)
class Waterfall:
    """A difference as the parts that add up to it: one step after the other, from the first value to the last.

    Attributes:
        title: What changes, from where to where.
        total: The difference, as text.
        error: One standard error of it, as text.
        start: What is called the first value, and how large it is.
        end: What is called the last value, and how large it is.
        parts: In the order of reading.
    """

    title: str
    total: str
    error: str
    start: tuple[str, float]
    end: tuple[str, float]
    parts: tuple[WaterfallPart, ...]


@dataclass(frozen=True)
class HeatRow:
    """One row of a heat strip.

    Attributes:
        label: At its left.
        tone: What its colour stands for.
        cells: The size in each column; None where it is not known.
    """

    label: str
    tone: Tone
    cells: tuple[float | None, ...]


@dataclass(frozen=True)
class HeatStrip:
    """Sizes over many columns, each a small cell that is the darker the larger it is, on a logarithmic scale.

    Attributes:
        title: What is seen, in a sentence.
        unit: Of the sizes, in words.
        columns: Their names, dotted: columns that begin alike stand under one heading.
        kinds: What each column is.
        rows: From top to bottom.
        least: What is smaller than this is left blank.
        most: What is larger than this is no darker.
    """

    title: str
    unit: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    least: float
    most: float

    def depth(self, size: float) -> float:
        """How dark a cell is, from 0 (blank) to 1."""
        if not size >= self.least:
            return 0.0
        lowest = 0.15  # what is seen at all
        decades = math.log10(min(size, self.most) / self.least) / math.log10(self.most / self.least)
        return lowest + (1 - lowest) * decades


@dataclass(frozen=True)
class Brief:
    """What a terminal shows of a report beside its verdict, the reasons and the fix; the rest comes with ``-v``.

    Attributes:
        tables: The figures that the verdict rests on.
        waterfall: What a difference is made of.
        remarks: Sentences below the figures.
        tries: What to try, where nothing need be repaired.
        closing: How the figures came about, in a few words.
        more: What ``-v`` adds, in a few words.
    """

    tables: tuple[Sheet, ...] = ()
    waterfall: Waterfall | None = None
    remarks: tuple[str, ...] = ()
    tries: tuple[str, ...] = ()
    closing: str = ""
    more: str = ""


@dataclass(frozen=True)
class Document:
    """A report, part by part in the order of reading.

    Attributes:
        title: What was looked at.
        place: Where it is defined.
        state: Safe, or not, or not known.
        headline: The answer.
        yours: What it is at the reader's own batch size.
        reasons: Why.
        chart: Values over batch sizes.
        caption: What was measured, above the figures: sentences, each on lines of its own.
        caption_label: What the caption is called in a terminal; empty leaves it to pages and pictures.
        sheet: The figures.
        footnote: What is said below the figures.
        use: Code to use instead, or a command that repairs it, line by line.
        asides: What else to know.
        brief: What a terminal shows without ``-v``.
        heat: Where something happens, which a page draws.
        appendix: More tables: a terminal shows them with ``-v``.
    """

    title: str
    place: Place | None
    state: bool | None
    headline: str
    yours: str = ""
    reasons: tuple[Reason, ...] = ()
    chart: Chart | None = None
    caption: tuple[str, ...] = ()
    caption_label: str = "drawn"
    sheet: Sheet | None = None
    footnote: str = ""
    use: tuple[str, ...] = ()
    asides: tuple[Aside, ...] = ()
    brief: Brief = Brief()
    heat: HeatStrip | None = None
    appendix: tuple[Sheet, ...] = ()

    @property
    def use_heading(self) -> str:
        """Over the code: what is safe needs no repair."""
        return "Fix" if self.state is False else "Use"

    @property
    def warnings(self) -> list[Aside]:
        """What qualifies all the rest."""
        return [aside for aside in self.asides if aside.is_warning]

    @property
    def full_caption(self) -> str:
        """What is said of the figures, in one paragraph."""
        return "; ".join(text for text in (*self.caption, self.footnote) if text)


def row_of(size: int | None, sizes: Sequence[int]) -> int | None:
    """Which row is that of a size."""
    return sizes.index(size) if size in sizes else None
