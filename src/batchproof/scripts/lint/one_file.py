"""One file, from its bytes to what is said about it.  Whatever it holds, this ends in a result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batchproof.errors import BatchproofError
from batchproof.scripts.lint.check import check_with_sites
from batchproof.scripts.lint.finding import Linted, LintFinding, LintProblem
from batchproof.scripts.lint.rules import CODES
from batchproof.scripts.lint.source import SourceFile, Unreadable, read

if TYPE_CHECKING:
    from batchproof.scripts.source import AverageSite

#: Rules whose findings can sometimes be repaired; how, is imported when there is one.
FIXABLE = ("BP101", "BP201", "BP203")


def lint_path(path: str, codes: Collection[str] = CODES) -> Linted:
    """Lint a file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return Linted(path, problems=(LintProblem(path, f"it cannot be read: {error.strerror or error}"),))
    return lint(path, content, codes)


def lint(path: str, content: bytes, codes: Collection[str] = CODES) -> Linted:
    """Lint what a file holds."""
    try:
        source = read(path, content)
        found = _with_fixes(source, check_with_sites(source, codes))
    except Unreadable as error:
        return Linted(path, problems=(LintProblem(path, str(error), error.line),))
    except BatchproofError as error:
        return Linted(path, problems=(LintProblem(path, str(error)),))
    except RecursionError:
        return Linted(path, problems=(LintProblem(path, "it is nested too deeply"),))
    except Exception as error:  # noqa: BLE001 - one file's surprise must not keep the others from being linted
        reason = f"batchproof itself failed on it ({type(error).__name__}: {error}); please report this file"
        return Linted(path, problems=(LintProblem(path, reason.replace("\n", " ")),))
    return Linted(
        path,
        tuple(found),
        tuple(LintProblem(path, reason) for reason in source.broken),
        lines_of(source, found),
    )


def _with_fixes(source: SourceFile, found: Sequence[tuple[LintFinding, AverageSite | None]]) -> list[LintFinding]:
    if not any(site is not None and finding.code in FIXABLE for finding, site in found):
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
