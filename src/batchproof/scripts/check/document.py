"""A ScriptCheck as a document: the measurement that tells the most, and a line for each of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.ground.place import Place
from batchproof.ground.text import listed, sentence
from batchproof.report.document import Document, Reason
from batchproof.report.forms import document_of

if TYPE_CHECKING:
    from batchproof.scripts.check.result import ScriptCheck
    from batchproof.scripts.lint import LintFinding


def document(check: ScriptCheck) -> Document:
    """What is shown of a check."""
    telling = check.telling
    shown = document_of(telling) if telling is not None else Document(check.script, None, None, "")
    brief = shown.brief
    if check.is_exact:
        brief = replace(brief, remarks=())  # of what was looked for
    measured = telling is not None and telling.exit_status == 1
    headline = _exact_headline(check) if check.is_exact else shown.headline
    if not measured and check.findings:
        headline = f"{check.lint_headline}{'; ' + shown.headline if telling is not None else ''}"
    return replace(
        shown,
        title=check.script,
        place=None,
        state={0: True, 1: False}.get(check.exit_status),
        headline=headline or "could not tell: nothing was measured",
        reasons=shown.reasons if measured or not check.findings else tuple(map(_reason, check.findings)),
        use=check.fix,
        brief=replace(brief, remarks=(*brief.remarks, *_others(check, is_lint_told=not measured))),
    )


def _exact_headline(check: ScriptCheck) -> str:
    lines = listed([str(place.line) for place in check.exact])
    what = f"line {lines} takes its value" if len(check.exact) == 1 else f"lines {lines} take their values"
    return f"nothing is averaged over batches: {what} from exact()"


def _reason(finding: LintFinding) -> Reason:
    place = Place(finding.path, finding.span.line)
    return Reason(finding.code, finding.message, place, "" if finding.fix is not None else finding.remedy)


def _others(check: ScriptCheck, is_lint_told: bool) -> Iterator[str]:
    """What the others of the three say, and what gives all of it."""
    if not (is_lint_told and check.findings):
        yield f"lint: {check.lint_headline}"
    for verb, found in (("run", check.run), ("compare", check.comparison)):
        if found is not None and found is not check.telling:
            yield f"{verb}: {document_of(found).headline}"
    yield from map(sentence, check.obstacles)
