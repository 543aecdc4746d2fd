"""A report as HTML: a fragment for notebooks, or a page of its own.  No scripts, no links, nothing to load."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from batchproof.ground.text import sentence
from batchproof.report import palette
from batchproof.report.document import Aside, Brief, Column, Document, Group, Reason, Sheet
from batchproof.report.forms import document_of
from batchproof.report.heat import heat
from batchproof.report.source import SourceLine, around
from batchproof.report.svg import svg, waterfall_svg
from batchproof.version import VERSION

if TYPE_CHECKING:
    from batchproof.ground.place import Place
    from batchproof.report.result import Result

#: The tones of a cell that a page shows in colour.
TONES = frozenset({"wrong", "expected", "notable", "faint"})
_STATE = {True: ("safe", "✓"), False: ("harmful", "✗"), None: ("unknown", "?")}


def render(found: Result) -> str:
    """The report as one ``div``, for a notebook."""
    style = f".batchproof {{ {palette.variables(palette.EITHER)} }}\n{_sheet('report.css')}"
    return f'<div class="batchproof"><style>{style}</style>{_article(document_of(found))}</div>'


def page(found: Result) -> str:
    """The report as a file of its own."""
    document = document_of(found)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(document.title)}: {escape(document.headline)}</title>\n"
        f"<style>{_colours()}{_sheet('page.css')}{_sheet('report.css')}</style>\n</head>\n"
        f'<body>\n<main class="batchproof">{_article(document)}</main>\n'
        f"<footer>batchproof {VERSION}</footer>\n</body>\n</html>\n"
    )


def _colours() -> str:
    light, dark = palette.variables(palette.LIGHT), palette.variables(palette.DARK)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _sheet(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _article(document: Document) -> str:
    kind, _ = _STATE[document.state]
    return f'<article class="{kind}">{"".join(_parts(document))}</article>'


def _parts(document: Document) -> Iterator[str]:
    """Under the headings of the terminal: the verdict and its figures, Why, Try, Fix, and More."""
    yield _header(document)
    if document.yours:
        yield f'<p class="yours">{_sentence(document.yours)}</p>'
    yield from (f'<p class="given">{escape(warning.text)}</p>' for warning in document.warnings)
    brief = document.brief
    yield from _brief_figures(document, brief)
    if document.reasons:
        reasons = "".join(map(_reason, document.reasons))
        yield f"<section><h2>Why</h2>{reasons}</section>"
    if brief.tries:
        tries = "".join(f"<p>{escape(text)}</p>" for text in brief.tries)
        yield f"<section><h2>Try</h2>{tries}</section>"
    figures = "".join(_figures(document, with_chart=brief.waterfall is not None))
    if document.use:
        code = escape("\n".join(document.use))
        yield f"<section><h2>{document.use_heading}</h2><pre><code>{code}</code></pre></section>"
    rest = [aside for aside in document.asides if not aside.is_warning]
    asides = f'<dl class="asides">{"".join(map(_aside, rest))}</dl>' if rest else ""
    if figures + asides:
        yield f"<section><h2>More</h2>{figures}{asides}</section>"


def _brief_figures(document: Document, brief: Brief) -> Iterator[str]:
    """What a terminal shows without -v, drawn where a page can."""
    if brief.waterfall is not None:
        yield f"<figure>{waterfall_svg(brief.waterfall)}</figure>"
    elif document.chart is not None:
        yield f"<figure>{svg(document.chart)}</figure>"
    yield from map(_table, brief.tables)
    if document.heat is not None:
        yield heat(document.heat)
    yield from (f"<p>{escape(remark)}</p>" for remark in brief.remarks)
    if brief.closing:
        yield f'<p class="caption">{escape(brief.closing)}</p>'


def _figures(document: Document, *, with_chart: bool) -> Iterator[str]:
    if document.chart is not None and with_chart:
        yield f"<figure>{svg(document.chart)}<figcaption>{escape(document.full_caption)}</figcaption></figure>"
    elif document.full_caption:
        yield f'<p class="caption">{escape(document.full_caption)}</p>'
    if document.sheet is not None:
        yield _table(document.sheet)
    yield from map(_table, document.appendix)


def _header(document: Document) -> str:
    _, sign = _STATE[document.state]
    headline = escape(document.headline)
    return (
        f"<header><h1>{escape(document.title)}</h1>{_place(document.place)}"
        f'<p class="verdict"><span class="sign" aria-hidden="true">{sign}</span>{headline}</p>'
        "</header>"
    )


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:])


def _place(place: Place | None) -> str:
    return f'<p class="place">{escape(str(place))}</p>' if place is not None else ""


def _reason(reason: Reason) -> str:
    source = ""
    if reason.place is not None:
        lines = "".join(map(_source_line, around(reason.place)))
        source = f'{_place(reason.place)}<pre class="source">{lines}</pre>'
    remedy = f'<p class="remedy">{_sentence(reason.remedy)}.</p>' if reason.remedy else ""
    title = f"<strong>{escape(reason.title)}:</strong> " if reason.title else ""
    return f"{source}<p>{title}{escape(reason.text)}.</p>{remedy}"


def _source_line(line: SourceLine) -> str:
    text = f'<span class="number">{line.number:>5}</span> {escape(line.text)}'
    return f'<mark>{text}<span class="arrow"> ◂</span></mark>\n' if line.is_meant else f"<span>{text}</span>\n"


def _table(sheet: Sheet) -> str:
    first = f'<th scope="col" class="size">{escape(sheet.label)}</th>'
    over = ""
    if any(group.title for group in sheet.groups):
        over = '<tr><td class="size"></td>' + "".join(map(_over, sheet.groups)) + "</tr>"
    titles = first + "".join(
        _cell("th", column.title, index == 0, ' scope="col"', "left" if column.is_left else "")
        for group in sheet.groups
        for index, column in enumerate(group.columns)
    )
    rows = "".join(_row(sheet, index) for index in range(len(sheet.sizes)))
    words = ' class="words"' if sheet.in_words else ""
    said = "".join(f"<p>{escape(sentence(group.headline))}</p>" for group in sheet.groups if group.headline)
    table = f"<table{words}><thead>{over}<tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"
    return f'{said}<div class="wide">{table}</div>'


def _over(group: Group) -> str:
    return f'<th scope="colgroup" colspan="{len(group.columns)}" class="first">{escape(group.full_title)}</th>'


def _row(sheet: Sheet, index: int) -> str:
    own = index == sheet.marked
    yours = '<span title="your batch size">▸ </span>' if own else ""
    cells = "".join(
        _cell("td", column.cells[index], position == 0, look=_look(column, index))
        for group in sheet.groups
        for position, column in enumerate(group.columns)
    )
    note = f'<span class="note">{escape(sheet.notes[index])}</span>' if sheet.notes and sheet.notes[index] else ""
    return (
        f'<tr{" class=own" if own else ""}><th scope="row" class="size">{yours}{escape(sheet.sizes[index])}{note}</th>'
        f"{cells}</tr>"
    )


def _cell(tag: str, text: str, first: bool, more: str = "", look: str = "") -> str:
    names = " ".join(filter(None, ("first" if first else "", look)))
    quote = '"' if " " in names else ""
    return f"<{tag}{more}{f' class={quote}{names}{quote}' if names else ''}>{escape(text)}</{tag}>"


def _look(column: Column, index: int) -> str:
    """The classes of a cell: words stand at the left, and what is wrong has its colour."""
    tone = column.tones[index] if column.tones else ""
    return " ".join(filter(None, ("left" if column.is_left else "", tone if tone in TONES else "")))


def _aside(aside: Aside) -> str:
    where = f"{aside.place}: " if aside.place is not None else ""
    return f"<dt>{escape(aside.title or aside.label)}</dt><dd>{escape(where + aside.text)}</dd>"
