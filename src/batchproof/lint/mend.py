"""Fixes applied, round after round, until nothing is left that can be mended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from batchproof.lint.finding import Edit, Linted, Problem
from batchproof.lint.fixes.edits import applied, overlap
from batchproof.lint.one_file import lint
from batchproof.lint.rules import CODES
from batchproof.lint.source import decoded

ROUNDS = 20


def mended_path(path: str, codes: Collection[str] = CODES) -> tuple[bytes, bytes, Linted]:
    """A file's content, the same mended, and what is left to say about it.  Nothing is written."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return b"", b"", Linted(path, problems=(Problem(path, f"it cannot be read: {error.strerror or error}"),))
    return content, *mended(path, content, codes)


def mended(path: str, content: bytes, codes: Collection[str] = CODES) -> tuple[bytes, Linted]:
    """The content mended, and what is left to say about it."""
    fixed = 0
    linted = lint(path, content, codes)
    for _ in range(ROUNDS):
        chosen: list[Sequence[Edit]] = []
        for finding in linted.findings:
            if finding.fix is not None and not any(overlap(finding.fix.edits, other) for other in chosen):
                chosen.append(finding.fix.edits)
        if not chosen:
            break
        changed = _rewritten(path, content, [edit for edits in chosen for edit in edits])
        if changed is None:
            reason = "it is not written as Jupyter writes notebooks, and a fix would change all of its formatting"
            linted = replace(linted, problems=(*linted.problems, Problem(path, reason)))
            break
        after = lint(path, changed, codes)
        if after.problems != linted.problems or len(after.findings) >= len(linted.findings):
            break  # two fixes that are right by themselves, and not together
        fixed += len(chosen)
        content, linted = changed, after
    return content, replace(linted, fixed=fixed)


def _rewritten(path: str, content: bytes, edits: Sequence[Edit]) -> bytes | None:
    """The file with these edits, in its own encoding and with its own line ends."""
    if not path.endswith(".ipynb"):
        text, encoding = decoded(content)
        try:
            return applied(text, edits).encode(encoding)
        except UnicodeEncodeError:
            return None
    from batchproof.lint.notebook import code_cells, with_cells

    by_cell: dict[int, list[Edit]] = defaultdict(list)
    for edit in edits:
        assert edit.span.cell is not None
        by_cell[edit.span.cell].append(edit)
    return with_cells(
        content, {number: applied(text, by_cell[number]) for number, text in code_cells(content) if number in by_cell}
    )
