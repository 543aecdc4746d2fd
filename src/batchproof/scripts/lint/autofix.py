"""Fixes applied, round after round, until nothing is left that can be repaired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from batchproof.scripts.lint.check import check_with_sites
from batchproof.scripts.lint.finding import Edit, Linted, LintProblem
from batchproof.scripts.lint.fixes import FIXES, fixes
from batchproof.scripts.lint.fixes.edits import applied
from batchproof.scripts.lint.one_file import lint
from batchproof.scripts.lint.rules import CODES
from batchproof.scripts.lint.source import decoded, read

ROUNDS = 100


def mended_path(path: str, codes: Collection[str] = CODES) -> tuple[bytes, bytes, Linted]:
    """A file's content, that after its repair, and what is left to say about it.  Nothing is written."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return b"", b"", Linted(path, problems=(LintProblem(path, f"it cannot be read: {error.strerror or error}"),))
    return content, *mended(path, content, codes)


def mended(path: str, content: bytes, codes: Collection[str] = CODES) -> tuple[bytes, Linted]:
    """The content after its repair, and what is left to say about it."""
    fixed = 0
    for _ in range(ROUNDS):
        edits = _next_fix(path, content, codes)
        if not edits:
            break
        changed = _rewritten(path, content, edits)
        if changed is None:
            reason = "its formatting cannot be kept, so it was not mended"
            linted = lint(path, content, codes)
            return content, replace(linted, problems=(*linted.problems, LintProblem(path, reason)), fixed=fixed)
        fixed += 1
        content = changed
    return content, replace(lint(path, content, codes), fixed=fixed)


def _next_fix(path: str, content: bytes, codes: Collection[str]) -> tuple[Edit, ...]:
    """One fix at a time: the next one may use what this one brings."""
    try:
        source = read(path, content)
        found = check_with_sites(source, codes)
        if any(finding.code in FIXES for finding, _ in found):
            return next((fix.edits for _, fix in fixes(source, found) if fix is not None), ())
    except Exception:  # noqa: BLE001 - `lint` comes across the same, and says what it is
        pass
    return ()


def _rewritten(path: str, content: bytes, edits: Sequence[Edit]) -> bytes | None:
    """The file with these edits, in its own encoding and with its own line ends."""
    if not path.endswith(".ipynb"):
        text, encoding = decoded(content)
        try:
            return applied(text, edits).encode(encoding)
        except UnicodeEncodeError:
            return None
    from batchproof.scripts.lint.notebook import code_cells, with_cells

    by_cell: dict[int, list[Edit]] = defaultdict(list)
    for edit in edits:
        assert edit.span.cell is not None
        by_cell[edit.span.cell].append(edit)
    return with_cells(
        content, {number: applied(text, by_cell[number]) for number, text in code_cells(content) if number in by_cell}
    )
