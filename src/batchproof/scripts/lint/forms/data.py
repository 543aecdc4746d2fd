"""What lint found, and the rules, for other programs: JSON, the SARIF format 2.1.0, and commands of GitHub."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import quote

from batchproof.scripts.lint.baseline import KnownFinding
from batchproof.scripts.lint.finding import LintProblem, Severity
from batchproof.scripts.lint.rules import BY_CODE, RULES
from batchproof.version import VERSION

if TYPE_CHECKING:
    from batchproof.scripts.lint.finding import Fix, Linted, LintFinding, SourceSpan
    from batchproof.scripts.lint.rule import Rule

SCHEMA = "batchproof/lint/1"
RULES_SCHEMA = "batchproof/rule/1"
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
_COMMAND = {"error": "error", "warning": "warning", "note": "notice"}


class SpanData(TypedDict):
    line: int
    column: int
    end_line: int
    end_column: int
    cell: int | None


class RelatedData(SpanData):
    message: str


class EditData(SpanData):
    text: str


class FixData(TypedDict):
    message: str
    edits: list[EditData]


class FindingData(SpanData):
    path: str
    code: str
    name: str
    severity: Severity
    message: str
    remedy: str
    related: list[RelatedData]
    fix: FixData | None
    function: str
    statement: str
    is_known: bool | None


class LintData(TypedDict):
    schema: str
    findings: list[FindingData]
    problems: list[LintProblem]
    stale: list[KnownFinding]


class RuleData(TypedDict):
    code: str
    name: str
    severity: Severity
    summary: str
    page: str


class RulesData(TypedDict):
    schema: str
    rules: list[RuleData]


def findings(files: Sequence[Linted], stale: Iterable[KnownFinding] = ()) -> str:
    """A JSON object: what was found, what could not be read, and the baseline's entries that nothing was found for."""
    return _text(
        LintData(
            schema=SCHEMA,
            findings=[_finding(finding) for linted in files for finding in linted.findings],
            problems=[problem for linted in files for problem in linted.problems],
            stale=list(stale),
        )
    )


def rules(listed: Iterable[Rule]) -> str:
    """A JSON object with these rules, their pages among the fields."""
    return _text(RulesData(schema=RULES_SCHEMA, rules=[_rule(one) for one in listed]))


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=asdict)


def _rule(one: Rule) -> RuleData:
    return {
        "code": one.code,
        "name": one.name,
        "severity": one.severity,
        "summary": one.summary,
        "page": one.page,
    }


def _finding(finding: LintFinding) -> FindingData:
    return {
        "path": finding.path,
        **_span(finding.span),
        "code": finding.code,
        "name": BY_CODE[finding.code].name,
        "severity": finding.severity,
        "message": finding.message,
        "remedy": finding.remedy,
        "related": [{**_span(related.span), "message": related.message} for related in finding.related],
        "fix": None if finding.fix is None else _fix(finding.fix),
        "function": finding.function,
        "statement": finding.statement,
        "is_known": finding.is_known,
    }


def _fix(fix: Fix) -> FixData:
    return {"message": fix.message, "edits": [{**_span(edit.span), "text": edit.text} for edit in fix.edits]}


def _span(span: SourceSpan) -> SpanData:
    return {
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
        "cell": span.cell,
    }


# ---------------------------------------------------------------------- SARIF


def sarif(files: Sequence[Linted]) -> str:
    """A log of one run."""
    run = {
        "tool": {"driver": {"name": "batchproof", "version": VERSION, "rules": [_sarif_rule(one) for one in RULES]}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for linted in files for finding in linted.findings],
        "invocations": [_invocation([problem for linted in files for problem in linted.problems])],
    }
    return _text({"$schema": _SARIF, "version": "2.1.0", "runs": [run]})


def _sarif_rule(one: Rule) -> dict[str, Any]:
    return {
        "id": one.code,
        "name": "".join(part.capitalize() for part in one.name.split("-")),
        "shortDescription": {"text": one.summary},
        "fullDescription": {"text": " ".join(one.page.partition("\n\n")[0].split())},
        "help": {"text": one.page, "markdown": one.page},
        "defaultConfiguration": {"level": one.severity.value},
    }


def _result(finding: LintFinding) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": list(BY_CODE).index(finding.code),
        "level": finding.severity.value,
        "message": {"text": finding.advice},
        "locations": [_location(finding.path, finding.span)],
    }
    if finding.is_known is not None:
        result["baselineState"] = "unchanged" if finding.is_known else "new"
    if finding.related:
        result["relatedLocations"] = [
            {"id": number, **_location(finding.path, related.span), "message": {"text": related.message}}
            for number, related in enumerate(finding.related)
        ]
    if finding.fix is not None and finding.cell is None:  # a notebook's regions are not those of its file
        result["fixes"] = [_sarif_fix(finding.path, finding.fix)]
    return result


def _sarif_fix(path: str, fix: Fix) -> dict[str, Any]:
    replacements = [{"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.text}} for edit in fix.edits]
    return {
        "description": {"text": fix.message},
        "artifactChanges": [{"artifactLocation": {"uri": _uri(path)}, "replacements": replacements}],
    }


def _location(path: str, span: SourceSpan) -> dict[str, Any]:
    region = {} if span.cell is not None else {"region": _region(span)}
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(path)}, **region}}


def _region(span: SourceSpan) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }


def _invocation(problems: Sequence[LintProblem]) -> dict[str, Any]:
    notifications = {"toolExecutionNotifications": [_notification(problem) for problem in problems]}
    return {"executionSuccessful": True, **(notifications if problems else {})}


def _notification(problem: LintProblem) -> dict[str, Any]:
    region = {"region": {"startLine": problem.line}} if problem.line else {}
    place = {"physicalLocation": {"artifactLocation": {"uri": _uri(problem.path)}, **region}}
    return {"level": "error", "message": {"text": problem.reason}, "locations": [place]}


def _uri(path: str) -> str:
    """Relative as it was given, so that it fits the checkout of whoever reads it; a full path as a file's address."""
    return Path(path).as_uri() if Path(path).is_absolute() else quote(Path(path).as_posix(), errors="surrogateescape")


# ---------------------------------------------------------------------- GitHub


def github(files: Iterable[Linted]) -> str:
    """One workflow command for each finding, and for each file that was not linted."""
    return "\n".join(_commands(files))


def _commands(files: Iterable[Linted]) -> Iterator[str]:
    for linted in files:
        for finding in linted.new:
            yield _command(finding)
        for problem in linted.problems:
            place = f"file={_property(problem.path)}" + (f",line={problem.line}" if problem.line else "")
            yield f"::error {place},title=batchproof::{_data(problem.reason)}"


def _command(finding: LintFinding) -> str:
    span = finding.span
    place = f"line={span.line},endLine={span.end_line},col={span.column},endColumn={span.end_column}"
    if span.cell is not None:  # lines are those of the file that is JSON, and a cell's are none of these
        place = "line=1"
    title = f"{finding.code} {BY_CODE[finding.code].name}"
    command = f"::{_COMMAND[finding.severity.value]} file={_property(finding.path)},{place},title={title}"
    return f"{command}::{_data(finding.advice)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
