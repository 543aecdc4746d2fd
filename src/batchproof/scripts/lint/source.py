"""A file as the linter reads it: its text, its tree, where each line stands in the file, and what its comments silence.

A notebook is read as one script, its code cells one after the other: what one cell builds the next one uses.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

from batchproof.ground.text import first_line

LARGEST = 2_000_000
LARGEST_NOTEBOOK = 50_000_000  # pictures are stored in it
NEWLINE = re.compile(r"\r\n|\r|\n")


class Unreadable(Exception):
    """A file that cannot be linted, with the reason in one line.

    Attributes:
        line: where, if it is known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True)
class NotebookCell:
    """A code cell: its number among all cells, from 1, and the line of the joined text that its first line is."""

    number: int
    start: int


@dataclass(frozen=True)
class SourceFile:
    """A file that was read.

    Attributes:
        path: as it is shown.
        text: what was parsed, with the file's own line ends.
        tree: its syntax tree.
        encoding: what the file is written in.
        cells: a notebook's code cells; empty for a script.
        broken: why cells of a notebook were left out, a line for each.
    """

    path: str
    text: str
    tree: ast.Module
    encoding: str = "utf-8"
    cells: tuple[NotebookCell, ...] = ()
    broken: tuple[str, ...] = ()

    @cached_property
    def lines(self) -> list[str]:
        """The text's lines, without their ends; the first is line 1's."""
        return NEWLINE.split(self.text)

    def line(self, number: int) -> str:
        """One line, from 1."""
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else ""

    def column(self, line: int, offset: int) -> int:
        """The column, from 1, of a place that the tree counts in bytes of UTF-8 from 0."""
        text = self.line(line)
        if text.isascii():
            return offset + 1
        return len(text.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "ignore")) + 1

    def cell(self, line: int) -> NotebookCell | None:
        """The notebook's cell that a line stands in."""
        found = None
        for cell in self.cells:
            if cell.start > line:
                break
            found = cell
        return found


def read(path: str, content: bytes) -> SourceFile:
    """Read a script, or a notebook by its name.

    >>> read("train.py", b"x = 1").tree.body[0].targets[0].id
    'x'

    Raises:
        Unreadable: it is huge, binary, broken, or nested too deeply.
    """
    largest = LARGEST_NOTEBOOK if path.endswith(".ipynb") else LARGEST
    if len(content) > largest:
        raise Unreadable(f"it has {len(content) / 1e6:.1f} MB, and files over {largest / 1e6:.0f} MB are skipped")
    if path.endswith(".ipynb"):
        return _read_notebook(path, content)
    text, encoding = decoded(content)
    return SourceFile(path, text, parsed(text), encoding)


def decoded(content: bytes) -> tuple[str, str]:
    """A script's text and the encoding that it declares.

    Raises:
        Unreadable: the bytes are not text in that encoding.
    """
    if b"\0" in content:
        raise Unreadable("it is a binary file")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Unreadable(f"it is not {error.encoding} text", line) from None
    except (SyntaxError, LookupError, UnicodeError) as error:  # an encoding that Python does not know, or no encoding
        raise Unreadable(_first_line(error)) from None
    return text, encoding


def parsed(text: str) -> ast.Module:
    """The syntax tree.

    Raises:
        Unreadable: Python cannot parse it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes such as "\d" are not what this linter is about
            return ast.parse(text)
    except SyntaxError as error:
        raise Unreadable(error.msg or "it is not Python", error.lineno) from None
    except ValueError as error:
        raise Unreadable(_first_line(error)) from None
    except (RecursionError, MemoryError):
        raise Unreadable("it is nested too deeply to be parsed") from None


def _read_notebook(path: str, content: bytes) -> SourceFile:
    """The code cells as one script; where that is none, the cells that are broken are left out."""
    from batchproof.scripts.lint.notebook import code_cells, without_magics

    try:
        texts = {number: without_magics(text) for number, text in code_cells(content)}
    except ValueError as error:
        raise Unreadable(str(error)) from None
    broken: list[str] = []
    try:
        tree = parsed("\n".join(texts.values()))
    except Unreadable:
        for number, text in texts.items():
            try:
                parsed(text)
            except Unreadable as error:
                where = f"cell {number}" + (f", line {error.line}" if error.line else "")
                broken.append(f"{where}: {error}")
                texts[number] = "\n" * text.count("\n")
        tree = parsed("\n".join(texts.values()))
    cells = []
    line = 1
    for number, text in texts.items():
        cells.append(NotebookCell(number, line))
        line += text.count("\n") + 1
    return SourceFile(path, "\n".join(texts.values()), tree, "utf-8", tuple(cells), tuple(broken))


def _first_line(error: BaseException) -> str:
    return first_line(error) or type(error).__name__


_LINE = re.compile(r"#\s*noqa(?!\w)(?:\s*:\s*(?P<codes>[A-Z]+\d+(?:[\s,]+[A-Z]+\d+)*))?", re.IGNORECASE)
_FILE = re.compile(
    r"#\s*batchproof\s*:\s*noqa(?!\w)(?:\s*:\s*(?P<codes>[A-Z]+\d+(?:[\s,]+[A-Z]+\d+)*))?", re.IGNORECASE
)
_EVERY = ("",)  # every code begins with this


@dataclass(frozen=True)
class Silence:
    """What a file asks not to hear.

    Attributes:
        everywhere: beginnings of codes.
        lines: the same, line by line.
    """

    everywhere: tuple[str, ...] = ()
    lines: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def covers(self, code: str, lines: Collection[int]) -> bool:
        """Whether a finding on a statement of these lines is silenced."""
        if self.everywhere and code.startswith(self.everywhere):
            return True
        return any(code.startswith(self.lines[line]) for line in lines if line in self.lines)


def silence(source: SourceFile) -> Silence:
    """Read the comments."""
    if "noqa" not in source.text.lower():
        return Silence()
    everywhere: tuple[str, ...] = ()
    lines = {}
    for line, comment in _comments(source.text):
        if whole := _FILE.search(comment):
            everywhere += _codes(whole)
        elif found := _LINE.search(comment):
            lines[line] = _codes(found)
    return Silence(everywhere, lines)


def _codes(found: re.Match[str]) -> tuple[str, ...]:
    return tuple(re.split(r"[\s,]+", found["codes"].upper())) if found["codes"] else _EVERY


def _comments(text: str) -> list[tuple[int, str]]:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text, newline=None).readline))
    except (tokenize.TokenError, SyntaxError):  # the tokenizer is stricter than the parser in a few odd corners
        return [(number, line) for number, line in enumerate(NEWLINE.split(text), 1) if "#" in line]
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
