"""Comments that silence a finding: ``# noqa``, ``# noqa: BP101, BP2``, and for a whole file ``# batchproof: noqa``."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Collection
from dataclasses import dataclass, field

from batchproof.scripts.lint.source import NEWLINE, SourceFile

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
