"""The page of a terminal report: a title, a bold headline, and sections whose labels stand in the indent."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from batchproof.ground.place import Place

INDENT = 9
NARROWEST, WIDEST = 60, 120
#: A page for every width.
Page = Callable[[int], Iterable[Text]]
STATE_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}
SIGNS = {True: "✓", False: "✗", None: "?"}
_BRAILLE, _DOTS = 0x2800, (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80)
_ASCII = str.maketrans(
    {"→": "->", "±": "+-", "×": "x", "·": "-", "…": "...", "²": "^2", "┄": "-", "│": "|", "Σ": "sum ", "σ": "sigma",
     "√": "sqrt", "Γ": "Gamma", "▸": ">", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "", "▎": "", "▏": "",
     "▐": "#", "✓": "v", "✗": "x"}
    # a lone dot belongs to a dotted line, several to a curve
    | {chr(_BRAILLE + bits): "." if bits in _DOTS else "*" for bits in range(1, 256)}
)  # fmt: skip


def render(page: Page, width: int | None = None) -> str:
    """The page as plain text, as wide as the terminal; in ASCII where the terminal has no more."""
    text = "\n".join(
        line.plain.rstrip() for line in page(clamped(width or shutil.get_terminal_size((100, 24)).columns))
    )
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text


def show(page: Page, console: Console) -> None:
    """Print the page, in colour where the console has it."""
    if console.color_system is None or not console.is_terminal:
        console.file.write(render(page, console.width) + "\n")
        return
    for line in page(clamped(console.width)):
        line.rstrip()  # a blank at the end may be one more than the line has room for
        console.print(line, soft_wrap=True, highlight=False)


def clamped(width: int) -> int:
    """Wide enough for the table, and no wider than a reader's eye likes."""
    return max(NARROWEST, min(WIDEST, width))


def labelled(label: str, body: Iterable[Text]) -> list[Text]:
    """A section: its label beside the first line."""
    found = []
    for index, line in enumerate(body):
        margin = f"  {label}".ljust(INDENT) if index == 0 else " " * INDENT
        found.append(Text.assemble((margin, "bold cyan"), line))
    return found


def paragraph(label: str, text: str, width: int, style: str = "") -> list[Text]:
    """A section of running text; none where there is nothing to say."""
    return labelled(label, [Text(part, style=style) for part in textwrap.wrap(text, width - INDENT)])


def beginning(text: str, room: int) -> str:
    """As much of it as fits: a line of code is known by its beginning."""
    return text if len(text) <= room else text[: room - 1] + "…"


def ending(text: str, room: int) -> str:
    """As much of it as fits: a path is known by its end."""
    return text if len(text) <= room else "…" + text[len(text) - room + 1 :]


def code_line(place: Place | None, room: int) -> list[Text]:
    """A line of code behind its place; on two lines where there is no room for both."""
    if place is None:
        return []
    where = f"{place}   "
    if len(where) + len(place.text) <= room:
        return [Text.assemble((where, "cyan"), (place.text, "bold"))]
    return [
        Text(ending(str(place), room), style="cyan"),
        Text("  " + beginning(place.text, room - 2), style="bold"),
    ]
