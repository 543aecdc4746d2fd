"""An Explanation as a page of text.  Data in, text out: nothing here measures or knows torch."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from batchproof.derive.text import size_of
from batchproof.report.numbers import decimals_for, number
from batchproof.report.table import size_lines

if TYPE_CHECKING:
    from batchproof.explain.explanation import Curve, Explanation, Finding, Keep, Reading

INDENT = 9
#: The findings that say why it is safe.
PROOFS = frozenset({"mean", "independent", "accumulated"})
NARROWEST, WIDEST = 60, 120
_ASCII = str.maketrans(
    {"→": "->", "±": "+-", "×": "x", "·": "-", "…": "...", "²": "^2", "┄": "-", "│": "|", "Σ": "sum "}
)
_HEAD = {True: "bold green", False: "bold red", None: "bold yellow"}


def render(explanation: Explanation, width: int | None = None) -> str:
    """The report as plain text, as wide as the terminal."""
    text = "\n".join(line.plain.rstrip() for line in lines(explanation, width or _width()))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text


def show(explanation: Explanation, console: Console) -> None:
    """Print the report, in colour where the console has it."""
    if console.color_system is None or not console.is_terminal:
        console.file.write(render(explanation, _clamped(console.width)) + "\n")
        return
    for line in lines(explanation, _clamped(console.width)):
        console.print(line, soft_wrap=True, highlight=False)


def lines(explanation: Explanation, width: int) -> Iterator[Text]:
    """The report, line by line."""
    yield _title(explanation, width)
    for part in textwrap.wrap(explanation.headline, width):
        yield Text(part, style=_HEAD[explanation.is_safe])
    sections = [_given(explanation, width), *_reasons(explanation, width)]
    if explanation.curve is not None:
        sections.append(_labelled("size", size_lines(explanation, width - INDENT)))
        sections.append(_last(explanation.curve, explanation.kind, width))
    sections += [
        _finding(finding, width, "note")
        for finding in explanation.findings
        if finding.harmless and finding.code not in PROOFS
    ]
    if explanation.keep is not None:
        sections.append(_keep(explanation.keep, width))
    sections.append(_use(explanation.use, width))
    sections += [_paragraph("note", note, width, "") for note in explanation.notes]
    yield Text()
    for section in sections:
        yield from section


def _title(explanation: Explanation, width: int) -> Text:
    place = str(explanation.place) if explanation.place is not None else ""
    title = explanation.target
    if len(title) + len(place) + 2 > width:
        return Text(title, style="bold")
    return Text.assemble((title, "bold"), " " * (width - len(title) - len(place)), (place, "dim"))


def _labelled(label: str, body: Iterable[Text]) -> list[Text]:
    """A section: its label beside the first line."""
    found = []
    for index, line in enumerate(body):
        head = f"  {label}".ljust(INDENT) if index == 0 else " " * INDENT
        found.append(Text.assemble((head, "bold cyan"), line))
    return found


def _paragraph(label: str, text: str, width: int, style: str = "") -> list[Text]:
    return _labelled(label, [Text(part, style=style) for part in textwrap.wrap(text, width - INDENT)])


def _given(explanation: Explanation, width: int) -> list[Text]:
    """The inputs, where they were guessed: the reader must know on what the figures rest."""
    guessed = [given for given in explanation.inputs if given.guessed]
    if not guessed:
        return []
    text = ", ".join(f"{given.name} {given.what}" for given in guessed)
    return _paragraph(
        "given", f"{text}: guessed from the names; pass your own data for your own figures", width, "yellow"
    )


def _reasons(explanation: Explanation, width: int) -> Iterator[list[Text]]:
    """What harms, or else what makes it safe; a line of code is shown once."""
    found = [finding for finding in explanation.findings if not finding.harmless]
    found = found or [finding for finding in explanation.findings if finding.code in PROOFS]
    for index, finding in enumerate(found):
        repeated = index > 0 and finding.place is not None and finding.place == found[index - 1].place
        yield _finding(finding, width, "also" if index else "why", with_place=not repeated)


def _finding(finding: Finding, width: int, label: str, with_place: bool = True) -> list[Text]:
    room = width - INDENT
    body = []
    if finding.place is not None and with_place:
        where = f"{finding.place}   "
        code = finding.place.text
        if len(where) + len(code) <= room:
            body.append(Text.assemble((where, "cyan"), (code, "bold")))
        else:
            body.append(Text(str(finding.place), style="cyan"))
            body.append(Text("  " + _shorten(code, room - 2), style="bold"))
    body += [Text(part) for part in textwrap.wrap(f"{finding.title}: {finding.what}", room)]
    if finding.remedy and not finding.harmless:
        wrapped = textwrap.wrap(finding.remedy, room - 2)
        body += [Text(("→ " if not index else "  ") + part, style="green") for index, part in enumerate(wrapped)]
    return _labelled(label, body)


def _shorten(code: str, room: int) -> str:
    return code if len(code) <= room else code[: room - 1] + "…"


def _last(curve: Curve, kind: str, width: int) -> list[Text]:
    """What one short last batch does, at the size where it does most."""
    if kind != "function":
        return []
    candidates = [
        reading
        for reading in curve.readings
        if reading.last and not reading.undefined and 2 * reading.size <= curve.samples
        and abs(curve.error(reading.mean) - curve.error(reading.weighted)) >= 5e-4
    ]  # fmt: skip
    if not candidates:
        return []
    worst = max(candidates, key=lambda reading: abs(reading.mean - reading.weighted))
    return _paragraph("last", _short_last(worst, curve), width)


def _short_last(reading: Reading, curve: Curve) -> str:
    decimals = decimals_for([curve.exact, reading.mean], digits=5)
    return (
        f"batches of {reading.size:,} leave {reading.last:,} over: mean {number(reading.mean, decimals)}, "
        f"drop_last {number(reading.dropped, decimals)}, weighted by size {number(reading.weighted, decimals)}"
    )


def _keep(keep: Keep, width: int) -> list[Text]:
    if keep.row_nbytes:
        reason = keep.reason.split(", at ")[0]
        return _paragraph("keep", f"{keep.what}, {size_of(keep.row_nbytes)} each: {reason}", width)
    text = f"{keep.what}: {size_of(keep.nbytes)} at any size"
    if keep.error is not None:
        text += f"; verified on {keep.partitions} partitions to {max(keep.error, 1e-16):.0e}"
    return _paragraph("keep", text, width)


def _use(use: tuple[str, ...], width: int) -> list[Text]:
    """Code to paste; on one line where it fits."""
    joined = "    then ".join(use)
    room = width - INDENT
    rows = [joined] if len(joined) <= room else [part for row in use for part in textwrap.wrap(row, room)]
    return _labelled("use", [Text(row, style="bold") for row in rows]) if use else []


def _width() -> int:
    return _clamped(shutil.get_terminal_size((100, 24)).columns)


def _clamped(width: int) -> int:
    return max(NARROWEST, min(WIDEST, width))
