"""A line of somebody's source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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
