"""A document laid out on one sheet: words above and below the chart, the table as text.  A PNG is painted from it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from batchproof.report.chart_layout import HEIGHT, Ink, Shape, Stroke, Words, layout
from batchproof.report.chart_layout import WIDTH as CHART_WIDTH
from batchproof.report.document import Brief, Document, Reason, Sheet
from batchproof.report.heat_layout import heat_height, heat_layout
from batchproof.report.page import beginning
from batchproof.report.stacked import stacked
from batchproof.report.waterfall_layout import waterfall_height, waterfall_layout
from batchproof.version import VERSION

MARGIN = 32.0
WIDTH = CHART_WIDTH + 2 * MARGIN
#: Widths of a character, as shares of the font's size.
MONO, SANS, BOLD = 0.605, 0.56, 0.63
_STATE: dict[bool | None, tuple[Ink, str]] = {True: ("good", "✓"), False: ("bad", "✗"), None: ("unsure", "?")}


@dataclass
class Poster:
    """A sheet that fills from the top."""

    shapes: list[Shape] = field(default_factory=list)
    height: float = MARGIN

    def skip(self, room: float) -> None:
        """Leave some room."""
        self.height += room

    def write(
        self, text: str, size: float, ink: Ink = "text", *, bold: bool = False, mono: bool = False, indent: float = 0.0
    ) -> None:
        """Words, on as many lines as they take."""
        wide = size * (MONO if mono else BOLD if bold else SANS)
        for line in textwrap.wrap(text, int((WIDTH - 2 * MARGIN - indent) / wide)) or [""]:
            self.row(line, size, ink, bold=bold, mono=mono, indent=indent)

    def row(
        self, text: str, size: float, ink: Ink = "text", *, bold: bool = False, mono: bool = False, indent: float = 0.0
    ) -> None:
        """One line as it is."""
        self.height += 1.45 * size
        at = MARGIN + indent, self.height - 0.35 * size
        self.shapes.append(Words(at, text, ink, size=size, bold=bold, mono=mono))

    def bar(self, top: float, ink: Ink, dash: tuple[float, ...] = ()) -> None:
        """A stroke at the left, from ``top`` to here."""
        self.shapes.append(Stroke(((MARGIN, top), (MARGIN, self.height + 2)), ink, 4.0, dash))

    def draw(self, shapes: Iterable[Shape], height: float) -> None:
        """A figure, across the sheet."""
        self.shapes += [_moved(shape, MARGIN, self.height) for shape in shapes]
        self.height += height


def poster(document: Document) -> Poster:
    """Everything that a reader of the picture alone should know."""
    sheet = Poster()
    _head(sheet, document)
    _brief(sheet, document, document.brief)
    sheet.skip(10)
    sheet.row(f"batchproof {VERSION}", 10.5, "muted")
    sheet.skip(MARGIN - 12)
    return sheet


def _brief(sheet: Poster, document: Document, brief: Brief) -> None:
    """What a terminal shows without -v, drawn where a picture can."""
    for warning in document.warnings:
        _beside_a_bar(sheet, warning.text, "unsure", (10, 5))
    sheet.skip(22)
    if brief.waterfall is not None:
        sheet.draw(waterfall_layout(brief.waterfall), waterfall_height(brief.waterfall))
    elif document.chart is not None:
        sheet.draw(layout(document.chart), HEIGHT)
    for table in brief.tables:
        sheet.skip(14)
        _rows(sheet, table)
    if document.heat is not None:
        sheet.skip(22)
        sheet.draw(heat_layout(document.heat), heat_height(document.heat))
    for remark in brief.remarks:
        sheet.skip(8)
        sheet.write(remark, 12.5)
    _reasons(sheet, document)
    for text in brief.tries:
        sheet.skip(8)
        sheet.write(f"Try: {text}", 13.5)
    _use(sheet, document)
    if brief.closing:
        sheet.skip(14)
        sheet.write(brief.closing, 11.5, "muted")


def _reasons(sheet: Poster, document: Document) -> None:
    for reason in document.reasons:
        if not reason.is_extra:
            _reason(sheet, reason)


def _use(sheet: Poster, document: Document) -> None:
    if document.use:
        sheet.skip(14)
        top = sheet.height
        for line in document.use:
            sheet.row(line, 12.5, mono=True, bold=True, indent=16)
        sheet.bar(top, "good")


def _head(sheet: Poster, document: Document) -> None:
    ink, sign = _STATE[document.state]
    top = sheet.height
    sheet.write(document.title, 19, bold=True, mono=True, indent=16)
    if document.place is not None:
        sheet.write(str(document.place), 12, "muted", mono=True, indent=16)
    sheet.skip(3)
    sheet.write(f"{sign} {document.headline}", 15, ink, bold=True, indent=16)
    sheet.bar(top, ink)
    _beside_a_bar(sheet, document.yours, "mine", (4, 4))


def _beside_a_bar(sheet: Poster, text: str, ink: Ink, dash: tuple[float, ...]) -> None:
    if text:
        sheet.skip(9)
        top = sheet.height
        sheet.write(_sentence(text), 13.5, bold=ink == "mine", indent=16)
        sheet.bar(top, ink, dash)


def _reason(sheet: Poster, reason: Reason) -> None:
    sheet.skip(16)
    if reason.place is not None:
        sheet.write(str(reason.place), 12, "muted", mono=True)
        most = int((WIDTH - 2 * MARGIN - 16) / (13.5 * MONO))
        sheet.row(beginning(reason.place.text, most), 13.5, mono=True, bold=True, indent=16)
        sheet.skip(3)
    sheet.write(f"{reason.title}: {reason.text}." if reason.title else f"{reason.text}.", 13.5)
    if reason.remedy:
        sheet.skip(2)
        sheet.write(f"→ {_sentence(reason.remedy)}.", 13.5, "good")


def _rows(sheet: Poster, table: Sheet) -> None:
    """A table as a terminal shows it: names at the left."""
    size = 12.0
    width = int((WIDTH - 2 * MARGIN) / (size * MONO))
    for lines in stacked(replace(table, groups=tuple(replace(group, bars=()) for group in table.groups)), {}, width):
        for index, line in enumerate(lines):
            own = index - 1 == table.marked
            sheet.row(line.plain.rstrip(), size, "mine" if own else "text" if index else "muted", bold=own, mono=True)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _moved(shape: Shape, right: float, down: float) -> Shape:
    if isinstance(shape, Stroke):
        return replace(shape, points=tuple((x + right, y + down) for x, y in shape.points))
    return replace(shape, at=(shape.at[0] + right, shape.at[1] + down))
