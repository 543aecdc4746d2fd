"""One file, from its bytes to what is said about it, and to its repair.  Whatever it holds, this ends in a result."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.ground.place import Place
from batchproof.scripts.lint.check import FoundSite, check_with_sites
from batchproof.scripts.lint.finding import Edit, Linted, LintFinding, LintProblem
from batchproof.scripts.lint.rules import CODES
from batchproof.scripts.lint.source import SourceFile, Unreadable, decoded, read

#: Rules whose findings can sometimes be repaired; how, is imported when there is one.
FIXABLE = ("BP101", "BP201", "BP203")


def lint_path(path: str, codes: Collection[str] = CODES) -> Linted:
    """Lint a file."""
    content = _content(path)
    return content if isinstance(content, Linted) else lint(path, content, codes)


def _content(path: str) -> bytes | Linted:
    """What a file holds, or what there is to say where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return _unread(path, f"it cannot be read: {error.strerror or error}")


def _unread(path: str, reason: str, line: int | None = None) -> Linted:
    return Linted(path, problems=(LintProblem(path, reason, line),), is_read=False)


def lint(path: str, content: bytes, codes: Collection[str] = CODES) -> Linted:
    """Lint what a file holds."""
    try:
        source = read(path, content)
        found = _with_fixes(source, check_with_sites(source, codes))
        if any(finding.fix is not None for finding in found) and not _can_be_written(path, content):
            found = [replace(finding, fix=None) for finding in found]
    except Unreadable as error:
        return _unread(path, str(error), error.line)
    except BatchproofError as error:
        return _unread(path, str(error))
    except RecursionError:
        return _unread(path, "it is nested too deeply")
    except Exception as error:  # noqa: BLE001 - one file's surprise must not keep the others from being linted
        reason = f"batchproof itself failed on it ({type(error).__name__}: {error}); please report this file"
        return _unread(path, reason.replace("\n", " "))
    return Linted(
        path,
        tuple(found),
        tuple(LintProblem(path, reason) for reason in source.broken),
        lines_of(source, found),
    )


def _can_be_written(path: str, content: bytes) -> bool:
    """Whether an edit keeps all else as it was: of a notebook in an unusual formatting it would not."""
    if not path.endswith(".ipynb"):
        return True
    from batchproof.scripts.lint.notebook import with_cells

    return with_cells(content, {}) is not None


def _may_be_fixed(found: Sequence[FoundSite]) -> bool:
    return any(site is not None and finding.code in FIXABLE for finding, site in found)


def _with_fixes(source: SourceFile, found: Sequence[FoundSite]) -> list[LintFinding]:
    if not _may_be_fixed(found):
        return [finding for finding, _ in found]
    from batchproof.scripts.lint.fixes import with_fixes

    return with_fixes(source, found)


def lines_of(source: SourceFile, findings: Iterable[LintFinding]) -> dict[tuple[int | None, int], str]:
    """The lines that findings point at."""
    starts = {cell.number: cell.start for cell in source.cells}
    found = {}
    for finding in findings:
        for span in (finding.span, *(related.span for related in finding.related)):
            start = starts[span.cell] if span.cell is not None else 1
            found[span.cell, span.line] = source.line(start + span.line - 1)
    return found


def fix_commands(places: Iterable[Place]) -> tuple[str, ...]:
    """``batchproof lint --fix train.py``, for each file in which that repairs what is found at one of these lines."""
    lines: dict[str, set[int]] = defaultdict(set)
    for place in places:
        lines[place.file].add(place.line)
    return tuple(
        f"batchproof lint --fix {shlex.quote(file)}"
        for file in lines
        if any(finding.fix is not None and finding.span.line in lines[file] for finding in lint_path(file).findings)
    )


ROUNDS = 100


def repaired_path(path: str, codes: Collection[str] = CODES) -> tuple[bytes, bytes, Linted]:
    """A file's content, that after its repair, and what is left to say about it.  Nothing is written."""
    content = _content(path)
    return (b"", b"", content) if isinstance(content, Linted) else (content, *repaired(path, content, codes))


def repaired(path: str, content: bytes, codes: Collection[str] = CODES) -> tuple[bytes, Linted]:
    """The content after its repair, and what is left to say about it."""
    fixed = 0
    for _ in range(ROUNDS):
        edits = _next_fix(path, content, codes)
        if not edits:
            break
        changed = _rewritten(path, content, edits)
        if changed is None:
            reason = "its formatting cannot be kept, so it was not repaired"
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
        if _may_be_fixed(found):
            from batchproof.scripts.lint.fixes import fixes

            return next((fix.edits for _, fix in fixes(source, found) if fix is not None), ())
    except Exception:  # noqa: BLE001 - `lint` comes across the same, and says what it is
        pass
    return ()


def _rewritten(path: str, content: bytes, edits: Sequence[Edit]) -> bytes | None:
    """The file with these edits, in its own encoding and with its own line ends."""
    from batchproof.scripts.lint.fixes.edits import applied

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
