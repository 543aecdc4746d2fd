"""The report that the README opens with, as a picture of a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape, unescape
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

from shell import COLUMNS, printed

COMMAND = "batchproof compare examples/larger_batch_larger_loss.py --batch-size 16,64,128"
PICTURE = Path(__file__).parent / "_static" / "compare.svg"

#: Legible on a page of either colour: a terminal is dark.
COLOURS = {
    "paper": "#12161b", "text": "#e6e9ec", "frame": "#39424c", "dim": "#98a3ae", "red": "#ff8a80", "green": "#5fd08f",
    "yellow": "#e3b341", "blue": "#7ab4ff", "magenta": "#e2a3f5", "cyan": "#62cfe0",
}  # fmt: skip
CHARACTER, LINE, FONT = 8.4, 19.0, 14.0
MARGIN, TITLE = 20.0, 40.0
#: How many eighths of its place a block fills. Drawn, since fonts leave gaps between blocks, or have none.
_EIGHTHS = dict(zip("█▉▊▋▌▍▎▏", range(8, 0, -1), strict=True)) | {"▐": 4}
_AXIS = "│"
#: In the order of a terminal's own numbers.
_COLOUR_NAMES = ("", "red", "green", "yellow", "blue", "magenta", "cyan", "")
_DRAWN = _AXIS + "".join(_EIGHTHS)
_PARTS = re.compile(rf"{_AXIS}|[{''.join(_EIGHTHS)}]+|[^\s{_DRAWN}]+(?: [^\s{_DRAWN}]+)*")


def svg(lines: Sequence[Text]) -> str:
    """The lines in the window of a terminal; nothing is loaded, and any monospaced font will do."""
    width, height = 2 * MARGIN + COLUMNS * CHARACTER, TITLE + MARGIN + LINE * len(lines)
    body = "\n".join(_line(line, TITLE + LINE * (index + 0.75)) for index, line in enumerate(lines) if line.plain)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="about">\n'
        f'<desc id="about">{escape(_plain(lines))}</desc>\n<style>{_style()}</style>\n'
        f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8" class="window"/>\n'
        + "".join(f'<circle cx="{MARGIN + 18 * index:g}" cy="18" r="5.5" class="button"/>' for index in range(3))
        + f"\n{body}\n</svg>\n"
    )


def _style() -> str:
    colours = "".join(f".{name}{{fill:{colour}}}" for name, colour in COLOURS.items())
    return (
        f"text{{font:{FONT:g}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        f"fill:{COLOURS['text']};white-space:pre}}rect{{fill:{COLOURS['text']}}}{colours}.bold{{font-weight:bold}}"
        f".window{{fill:{COLOURS['paper']};stroke:{COLOURS['frame']}}}.button{{fill:{COLOURS['frame']}}}"
    )


def _line(line: Text, y: float) -> str:
    return "".join(_piece(at, text, look, y) for at, text, look in _placed(pieces(line)))


def _placed(parts: Iterable[tuple[str, str]]) -> Iterator[tuple[int, str, str]]:
    """Words and bars, each at its column."""
    column = 0
    for text, look in parts:
        yield from ((column + part.start(), part.group(), look) for part in _PARTS.finditer(text))
        column += len(text)


def _piece(column: int, text: str, look: str, y: float) -> str:
    x, name = MARGIN + CHARACTER * column, f' class="{look}"' if look else ""
    top = y - 0.75 * LINE
    if text == _AXIS:
        return f'<rect{name} x="{x + CHARACTER / 2 - 0.5:.1f}" y="{top:.1f}" width="1" height="{LINE:g}"/>'
    if text[0] in _EIGHTHS:
        begin = x + CHARACTER / 2 * (text[0] == "▐")
        length = CHARACTER / 8 * sum(_EIGHTHS[block] for block in text)
        return f'<rect{name} x="{begin:.1f}" y="{top + 2:.1f}" width="{length:.1f}" height="{LINE - 4:g}"/>'
    return f'<text{name} x="{x:.1f}" y="{y:.1f}" textLength="{CHARACTER * len(text):.1f}">{escape(text)}</text>'


def pieces(line: Text) -> Iterator[tuple[str, str]]:
    """The parts of a line, each with the names of its looks."""
    for segment in line.render(Console(), end=""):
        yield segment.text, _look(segment.style or Style())


def _look(style: Style) -> str:
    colour = _COLOUR_NAMES[style.color.number or 0] if style.color else ""
    return " ".join(filter(None, [colour, "bold" if style.bold else "", "dim" if style.dim else ""]))


def _plain(lines: Iterable[Text]) -> str:
    return "\n".join(line.plain.rstrip() for line in lines)


def is_current(lines: Sequence[Text]) -> bool:
    """Whether the picture shows these lines, but for their figures: they differ a little between machines."""
    about = re.search(r"<desc[^>]*>(.*?)</desc>", PICTURE.read_text(encoding="utf-8"), re.DOTALL)
    return about is not None and _words(unescape(about.group(1))) == _words(_plain(lines))


def _words(text: str) -> list[str]:
    return re.sub(rf"[-+\d.{_DRAWN}]+", " ", text).split()


def refresh() -> None:
    """Draw it again."""
    PICTURE.write_text(svg(printed(COMMAND)), encoding="utf-8")


if __name__ == "__main__":
    refresh()
