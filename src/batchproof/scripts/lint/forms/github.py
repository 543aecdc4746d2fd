"""What lint found, as GitHub shows it beside the lines of a change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from batchproof.scripts.lint.rules import BY_CODE

if TYPE_CHECKING:
    from batchproof.scripts.lint.finding import Linted, LintFinding

_COMMAND = {"error": "error", "warning": "warning", "note": "notice"}


def commands(files: Iterable[Linted]) -> Iterator[str]:
    """One workflow command for each finding, and for each file that was not linted."""
    for linted in files:
        for finding in linted.findings:
            yield _command(finding)
        for problem in linted.problems:
            place = f"file={_property(problem.path)}" + (f",line={problem.line}" if problem.line else "")
            yield f"::error {place},title=batchproof::{_data(problem.reason)}"


def _command(finding: LintFinding) -> str:
    span = finding.span
    text = f"{finding.message}. Instead: {finding.remedy}" if finding.remedy else finding.message
    place = f"line={span.line},endLine={span.end_line},col={span.column},endColumn={span.end_column}"
    if span.cell is not None:  # lines are those of the file that is JSON, and a cell's are none of these
        place, text = "line=1", f"cell {span.cell}, line {span.line}: {text}"
    title = f"{finding.code} {BY_CODE[finding.code].name}"
    return f"::{_COMMAND[finding.severity.value]} file={_property(finding.path)},{place},title={title}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
