"""What lint found, in the Static Analysis Results Interchange Format, version 2.1.0."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from batchproof.scripts.lint.rules import BY_CODE, RULES
from batchproof.version import VERSION

if TYPE_CHECKING:
    from batchproof.scripts.lint.finding import Fix, Linted, LintFinding, LintProblem, SourceSpan
    from batchproof.scripts.lint.rule import Rule

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_INDEX = {rule.code: index for index, rule in enumerate(RULES)}


def log(files: Sequence[Linted]) -> str:
    """A log of one run."""
    run = {
        "tool": {"driver": {"name": "batchproof", "version": VERSION, "rules": [_rule(rule) for rule in RULES]}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for linted in files for finding in linted.findings],
        "invocations": [_invocation([problem for linted in files for problem in linted.problems])],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": " ".join(rule.page.partition("\n\n")[0].split())},
        "help": {"text": rule.page, "markdown": rule.page},
        "defaultConfiguration": {"level": rule.severity.value},
    }


def _result(finding: LintFinding) -> dict[str, Any]:
    text = f"{finding.message}. Instead: {finding.remedy}" if finding.remedy else finding.message
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": _INDEX[finding.code],
        "level": BY_CODE[finding.code].severity.value,
        "message": {"text": _with_cell(finding.span, text)},
        "locations": [_location(finding.path, finding.span)],
    }
    if finding.related:
        result["relatedLocations"] = [
            {"id": number, **_location(finding.path, related.span), "message": {"text": related.message}}
            for number, related in enumerate(finding.related)
        ]
    if finding.fix is not None and finding.cell is None:  # a notebook's regions are not those of its file
        result["fixes"] = [_fix(finding.path, finding.fix)]
    return result


def _fix(path: str, fix: Fix) -> dict[str, Any]:
    replacements = [{"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.text}} for edit in fix.edits]
    return {
        "description": {"text": fix.message},
        "artifactChanges": [{"artifactLocation": {"uri": _uri(path)}, "replacements": replacements}],
    }


def _location(path: str, span: SourceSpan) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(path)}}
    if span.cell is None:
        physical["region"] = _region(span)
    return {"physicalLocation": physical}


def _region(span: SourceSpan) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }


def _with_cell(span: SourceSpan, text: str) -> str:
    return text if span.cell is None else f"cell {span.cell}, line {span.line}: {text}"


def _invocation(problems: Iterable[LintProblem]) -> dict[str, Any]:
    notifications = [
        {
            "level": "error",
            "message": {"text": problem.reason},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(problem.path)},
                        **({"region": {"startLine": problem.line}} if problem.line else {}),
                    }
                }
            ],
        }
        for problem in problems
    ]
    found: dict[str, Any] = {"executionSuccessful": True}
    if notifications:
        found["toolExecutionNotifications"] = notifications
    return found


def _uri(path: str) -> str:
    """Relative as it was given, so that it fits the checkout of whoever reads it; a full path as a file's address."""
    return Path(path).as_uri() if Path(path).is_absolute() else quote(Path(path).as_posix())
