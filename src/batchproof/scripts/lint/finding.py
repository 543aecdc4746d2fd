"""What the linter found at one place, and in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Severity(str, Enum):
    """How much the number tends to be off."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class SourceSpan:
    """A part of a file: lines from 1, columns from 1, the end exclusive, as SARIF counts them.

    Attributes:
        cell: in a notebook, the cell that the lines are counted in, from 1.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    cell: int | None = None


@dataclass(frozen=True)
class Related:
    """Another line that belongs to a finding: where the total is divided, where the square root is taken."""

    span: SourceSpan
    message: str


@dataclass(frozen=True)
class Edit:
    """Replace what a span holds."""

    span: SourceSpan
    text: str


@dataclass(frozen=True)
class Fix:
    """Edits that repair a finding together.

    Attributes:
        message: what they do.
        edits: spans that do not overlap.
    """

    message: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class LintFinding:
    """One finding.

    Attributes:
        code: the rule's, as in "BP101".
        severity: how much the number tends to be off.
        path: the file.
        span: the statement that adds a batch, or where the rule's own suspicion lies.
        message: one sentence: what is averaged, over what, and what that does.
        remedy: what to write instead, in a few words.
        related: the other lines that make it so.
        fix: a safe edit, where there is one.
        function: what the span stands in, as in "Trainer.evaluate"; empty at the top of a file.
        statement: the code of the span, on one line.
        is_known: whether the baseline has it; None without a baseline.
    """

    code: str
    severity: Severity
    path: str
    span: SourceSpan
    message: str
    remedy: str = ""
    related: tuple[Related, ...] = field(default=())
    fix: Fix | None = None
    function: str = ""
    statement: str = ""
    is_known: bool | None = None

    @property
    def cell(self) -> int | None:
        """The notebook's cell, from 1, that the span's lines are counted in."""
        return self.span.cell

    @property
    def advice(self) -> str:
        """What is wrong and what to write instead, on one line; in a notebook with the cell that it is about."""
        text = f"{self.message}. Instead: {self.remedy}" if self.remedy else self.message
        return text if self.cell is None else f"cell {self.cell}, line {self.span.line}: {text}"


@dataclass(frozen=True)
class LintProblem:
    """Why a file, or a cell of a notebook, was not linted.

    Attributes:
        path: the file.
        reason: in one line.
        line: where, if it is known.
    """

    path: str
    reason: str
    line: int | None = None


@dataclass(frozen=True)
class Linted:
    """All that is said about one file.

    Attributes:
        path: the file.
        findings: in the order of their lines.
        problems: what could not be read.
        lines: the text of the lines that findings point at, by cell and line.
        fixed: how many findings were repaired.
        is_read: whether the file could be read at all.
    """

    path: str
    findings: tuple[LintFinding, ...] = ()
    problems: tuple[LintProblem, ...] = ()
    lines: Mapping[tuple[int | None, int], str] = field(default_factory=dict)
    fixed: int = 0
    is_read: bool = True

    @property
    def new(self) -> tuple[LintFinding, ...]:
        """The findings that no baseline has."""
        return tuple(finding for finding in self.findings if not finding.is_known)

    @property
    def known(self) -> int:
        """How many findings the baseline has."""
        return len(self.findings) - len(self.new)
