"""``make refresh``: everything committed that shows what batchproof prints is made again, after its reports changed.

The blocks of README.md and docs/ that begin with a command, the picture, the gallery and the list of files. The tests
and `make docs` say when one of them is out of date. Pages as arguments: these alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

import files
import gallery
import picture
from shell import PROMPT, ROOT, run

#: As tests/test_docs.py reads them, and what takes too long for a test.
_BLOCK = re.compile(
    r"^```(console|text)\n(\$ (?:batchproof|python|torchrun) [^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
WIDTH = 100


def refreshed(page: str) -> str:
    """The page, with what its commands print today."""
    return _BLOCK.sub(_block, page)


def _block(found: re.Match[str]) -> str:
    language, line, before = found.groups()
    printed = run(line.removeprefix(PROMPT), columns=WIDTH, colour=False).strip("\n")
    after = "".join(f"{text.rstrip()}\n" for text in printed.splitlines())
    return f"```{language}\n{line}\n{before if _steady(before) == _steady(after) else after}```"


def _steady(text: str) -> str:
    """What is left of an output without its rounding errors and its time."""
    return re.sub(r"\d+(\.\d+)?e-1\d|\d+ s\b", "", text.strip())


if __name__ == "__main__":
    torch.set_num_threads(1)
    named = [Path(name) for name in sys.argv[1:]]
    for path in named or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        after = refreshed(page)
        if after != page:
            path.write_text(after, encoding="utf-8")
            print(f"wrote {path}")
    if not named:
        (ROOT / "docs" / "files.md").write_text(files.page(), encoding="utf-8")
        (ROOT / "docs" / "well-known-metrics.md").write_text(gallery.page(), encoding="utf-8")
        picture.refresh()
