"""A line of somebody's source."""

from __future__ import annotations

import linecache
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

#: The folder of this package: a frame of a file under it is none of the user's.
OWN_FOLDER = str(Path(__file__).parents[1]) + os.sep


@dataclass(frozen=True)
class Place:
    """A line of somebody's source: ``loss.py:11  root = torch.sqrt(mean)``.

    Attributes:
        file: Its path, as short as it is still found from here.
        line: Its number, from 1 on.
        text: What stands there.
    """

    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def place(file: str, line: int) -> Place:
    """A place as the report shows it."""
    return Place(short(file), line, linecache.getline(file, line).strip())


def short(file: str) -> str:
    """A path as one would type it: relative to here, or to the ``sys.path`` entry that holds it."""
    if file.startswith("<"):
        return file
    return _shortened(file, str(Path.cwd()), tuple(sys.path))


@lru_cache(maxsize=4096)  # a trace asks it for every operation
def _shortened(file: str, here: str, found_in: tuple[str, ...]) -> str:
    path = Path(file).absolute()
    if "site-packages" not in path.parts:
        return str(path.relative_to(here)) if path.is_relative_to(here) else file
    roots = [Path(root).absolute() for root in found_in if root]
    inside = [root for root in roots if path.is_relative_to(root)]
    return str(path.relative_to(max(inside, key=lambda root: len(root.parts)))) if inside else file


@final
class Statement(str):
    """A sentence whose end names a line: it reads as a whole, and a report that shows lines by itself takes the claim.

    Attributes:
        claim: what it says, without the line.
        rest: the line, and what follows it.
    """

    claim: str
    rest: str

    def __new__(cls, claim: str, rest: str = "") -> Statement:
        """The two, one after the other."""
        made = super().__new__(cls, claim + rest)
        made.claim, made.rest = claim, rest
        return made


def statement_of(message: str | BaseException) -> Statement:
    """What a message says: an error's, or a sentence."""
    if isinstance(message, BaseException):
        message = message.args[0] if message.args and isinstance(message.args[0], str) else str(message)
    return message if isinstance(message, Statement) else Statement(message)
