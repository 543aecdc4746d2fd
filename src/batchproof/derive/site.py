"""Where in the user's code something happens."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from batchproof.ground.place import OWN_FOLDER


@dataclass(frozen=True)
class CallSite:
    """A line of the user's code.

    Attributes:
        file: The path of the file.
        line: The number of the line, from 1 on.
        text: What stands there.
        function: The function that it belongs to.
    """

    file: str = "?"
    line: int = 0
    text: str = ""
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f"   {self.text}" if self.text else "")


_TORCH = str(Path(torch.__file__).parent) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep


OUTERMOST: set[Any] = set()  # code objects that call the user's function: nothing further out belongs to it


def is_library(file: str) -> bool:
    """Whether a file belongs to torch, to batchproof or to the standard library."""
    standard = file.startswith(_STDLIB) and "site-packages" not in file
    return standard or file.startswith((_TORCH, OWN_FOLDER, "<frozen"))


_STANDING: list[CallSite] = []  # the lines that operations are done again for


@contextmanager
def standing_at(site: CallSite) -> Iterator[None]:
    """What is done here is done for a line of the user's code that is not being run."""
    _STANDING.append(site)
    try:
        yield
    finally:
        _STANDING.pop()


def call_site() -> CallSite:
    """The innermost line that belongs neither to torch nor to batchproof nor to the standard library."""
    if _STANDING:
        return _STANDING[-1]
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if frame.f_code in OUTERMOST:
            return CallSite()
        if not is_library(name):
            text = linecache.getline(name, frame.f_lineno).strip()
            return CallSite(name, frame.f_lineno, text, frame.f_code.co_name)
        frame = frame.f_back
    return CallSite()
