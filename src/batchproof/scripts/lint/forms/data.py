"""What lint found, and the rules, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from batchproof.scripts.lint.rules import BY_CODE

if TYPE_CHECKING:
    from batchproof.scripts.lint.finding import Fix, Linted, LintFinding, SourceSpan
    from batchproof.scripts.lint.rule import Rule


def findings(files: Iterable[Linted]) -> str:
    """An array, one object for each finding."""
    return _text([_finding(finding) for linted in files for finding in linted.findings])


def rules(listed: Iterable[Rule]) -> str:
    """An array, one object for each rule, its page among the fields."""
    return _text([_rule(rule) for rule in listed])


def rule(one: Rule) -> str:
    """One rule, its page among the fields."""
    return _text(_rule(one))


def _rule(one: Rule) -> dict[str, str]:
    return {
        "code": one.code,
        "name": one.name,
        "severity": one.severity.value,
        "summary": one.summary,
        "page": one.page,
    }


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _finding(finding: LintFinding) -> dict[str, Any]:
    return {
        "path": finding.path,
        **_span(finding.span),
        "code": finding.code,
        "name": BY_CODE[finding.code].name,
        "severity": finding.severity.value,
        "message": finding.message,
        "remedy": finding.remedy,
        "related": [{**_span(related.span), "message": related.message} for related in finding.related],
        "fix": _fix(finding.fix),
    }


def _fix(fix: Fix | None) -> dict[str, Any] | None:
    if fix is None:
        return None
    return {"message": fix.message, "edits": [{**_span(edit.span), "text": edit.text} for edit in fix.edits]}


def _span(span: SourceSpan) -> dict[str, int | None]:
    return {
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
        "cell": span.cell,
    }
