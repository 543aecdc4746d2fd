"""Safe edits: only where all that they need stands in one function, and only if they turn out to mend the finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from batchproof.lint.check import check_with_sites
from batchproof.lint.finding import Finding, Fix
from batchproof.lint.fixes.edits import applied, in_cells
from batchproof.lint.fixes.exact import through_exact
from batchproof.lint.fixes.scope import Scopes
from batchproof.lint.fixes.weigh import weigh
from batchproof.lint.rules import CODES
from batchproof.lint.source import Source, Unreadable, parsed
from batchproof.sites.site import Site

FIXES = {"BP101": through_exact, "BP201": weigh, "BP203": weigh}


def with_fixes(source: Source, found: Sequence[tuple[Finding, Site | None]]) -> list[Finding]:
    """The findings, those that can be mended with their edits."""
    scopes = Scopes(source.tree)
    return [_with_fix(source, scopes, finding, site) for finding, site in found]


def _with_fix(source: Source, scopes: Scopes, finding: Finding, site: Site | None) -> Finding:
    make = FIXES.get(finding.code)
    fix = make(source, scopes, site) if make is not None and site is not None else None
    if fix is None or not mends(source, finding, fix):
        return finding
    edits = in_cells(source, fix.edits)
    return finding if edits is None else replace(finding, fix=Fix(fix.message, edits))


def mends(source: Source, finding: Finding, fix: Fix) -> bool:
    """Whether what comes out is Python, has this finding no more, and no other that was not there before."""
    text = applied(source.text, fix.edits)
    try:
        after = check_with_sites(replace(source, text=text, tree=parsed(text)), CODES)
    except Unreadable:
        return False
    before = check_with_sites(source, CODES)
    left, had = Counter(one.code for one, _ in after), Counter(one.code for one, _ in before)
    return left < had and left[finding.code] < had[finding.code]


__all__ = ["FIXES", "mends", "with_fixes"]
