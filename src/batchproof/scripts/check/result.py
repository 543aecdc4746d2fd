"""What ``check`` found, as plain frozen data.  Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from batchproof.ground.text import counted
from batchproof.report.result import Result
from batchproof.scripts.compare import Comparison
from batchproof.scripts.lint import LintFinding
from batchproof.scripts.run import ScriptRun


@dataclass(frozen=True, repr=False)
class ScriptCheck(Result):
    """What lint, run and compare say about one script.

    Attributes:
        script: the script with its arguments.
        findings: what lint found in its source.
        run: what one run printed, beside what it should have; None where it could not be run.
        comparison: why its numbers differ between batch sizes; None where none were given, or they cannot be compared.
        obstacles: why something of this could not be done, each in a sentence.
        fix: commands that repair what is wrong; empty where none does.
        interrupted: whether Ctrl-C ended it.
    """

    script: str
    findings: tuple[LintFinding, ...] = ()
    run: ScriptRun | None = None
    comparison: Comparison | None = None
    obstacles: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    interrupted: bool = False
    SCHEMA: ClassVar[str] = "batchproof/check/1"

    @property
    def telling(self) -> Comparison | ScriptRun | None:
        """The measurement that the headline is about: one that finds something wrong goes first."""
        measured = [found for found in (self.comparison, self.run) if found is not None]
        return min(measured, key=lambda found: (1, 0, 2).index(found.exit_status), default=None)

    @property
    def exit_status(self) -> int:
        """0: nothing is wrong.  1: something depends on the batch size by mistake.  2: could not tell."""
        measured = self.telling.exit_status if self.telling is not None else 2
        return 1 if self.findings else measured

    @property
    def lint_headline(self) -> str:
        """What lint says, in a few words."""
        if not self.findings:
            return "nothing found in the source"
        lines = ", ".join(f"{finding.code} at line {finding.span.line}" for finding in self.findings[:4])
        more = f" and {len(self.findings) - 4} more" if len(self.findings) > 4 else ""
        return f"{counted(len(self.findings), 'problem')} in the source: {lines}{more}"
