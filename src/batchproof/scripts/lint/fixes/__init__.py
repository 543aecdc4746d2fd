"""Safe edits: only where all that they need stands in one function, and only if they turn out to repair the finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from batchproof.errors import BatchproofError
from batchproof.scripts.lint.check import FoundSite, check_with_sites
from batchproof.scripts.lint.finding import Fix, LintFinding
from batchproof.scripts.lint.fixes.edits import applied, in_cells
from batchproof.scripts.lint.fixes.exact import through_exact
from batchproof.scripts.lint.fixes.logged_metric import log_the_metric
from batchproof.scripts.lint.fixes.scope import Scopes
from batchproof.scripts.lint.fixes.weight_by_samples import weigh
from batchproof.scripts.lint.rules import CODES
from batchproof.scripts.lint.source import SourceFile, Unreadable, parsed
from batchproof.scripts.source import AverageSite

FIXES = {"BP101": (through_exact, log_the_metric), "BP201": (weigh,), "BP203": (weigh,)}


def with_fixes(source: SourceFile, found: Sequence[FoundSite]) -> list[LintFinding]:
    """The findings, those that can be repaired with their edits."""
    return [replace(finding, fix=fix) for finding, fix in fixes(source, found)]


def fixes(source: SourceFile, found: Sequence[FoundSite]) -> Iterator[tuple[LintFinding, Fix | None]]:
    """Each finding with its fix, made when it is asked for.  One changes what the others have to do."""
    scopes = Scopes(source.tree)
    before = Counter(finding.code for finding, _ in check_with_sites(source, CODES))
    for finding, site in found:
        fix = None if site is None else _made(source, scopes, finding.code, site)
        if fix is None or not _repairs(source, before, finding, fix):
            yield finding, None
            continue
        edits = in_cells(source, fix.edits)
        yield finding, None if edits is None else Fix(fix.message, edits)


def _made(source: SourceFile, scopes: Scopes, code: str, site: AverageSite) -> Fix | None:
    made = (make(source, scopes, site) for make in FIXES.get(code, ()))
    return next((fix for fix in made if fix is not None), None)


def _repairs(source: SourceFile, before: Counter[str], finding: LintFinding, fix: Fix) -> bool:
    """Whether what comes out is Python, has this finding no more, and no other that was not there before."""
    text = applied(source.text, fix.edits)
    try:
        after = check_with_sites(replace(source, text=text, tree=parsed(text)), CODES)
    except (Unreadable, BatchproofError):
        return False
    left = Counter(other.code for other, _ in after)
    return left < before and left[finding.code] < before[finding.code]


__all__ = ["FIXES", "fixes", "with_fixes"]
