"""What ``check`` found, as plain frozen data.  Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from batchproof.ground.place import Place
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
        exact: where the source takes a value from `batchproof.exact`; empty where not all of it was read.
        interrupted: whether Ctrl-C ended it.
    """

    script: str
    findings: tuple[LintFinding, ...] = ()
    run: ScriptRun | None = None
    comparison: Comparison | None = None
    obstacles: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    exact: tuple[Place, ...] = ()
    interrupted: bool = False
    SCHEMA: ClassVar[str] = "batchproof/check/1"

    @property
    def telling(self) -> Comparison | ScriptRun | None:
        """The measurement that the headline is about: one that finds something wrong goes first."""
        measured = [found for found in (self.comparison, self.run) if found is not None]
        return min(measured, key=lambda found: (1, 0, 2).index(found.exit_status), default=None)

    @property
    def is_exact(self) -> bool:
        """Whether its numbers come from `batchproof.exact`, and the run came to its end without an average."""
        run = self.run
        if run is None or self.findings or not self.exact or (self.comparison and self.comparison.numbers):
            return False
        averaged = run.measured or run.notes or any(not seen.harmless for seen in run.seen)
        return not (averaged or run.failed or run.status or self.interrupted)

    @property
    def exit_status(self) -> int:
        """0: nothing is wrong.  1: something depends on the batch size by mistake.  2: could not tell."""
        if self.findings:
            return 1
        if self.is_exact:
            return 0
        return self.telling.exit_status if self.telling is not None else 2

    @property
    def lint_headline(self) -> str:
        """What lint says, in a few words."""
        if not self.findings:
            return "nothing found in the source"
        lines = ", ".join(f"{finding.code} at line {finding.span.line}" for finding in self.findings[:4])
        more = f" and {len(self.findings) - 4} more" if len(self.findings) > 4 else ""
        return f"{counted(len(self.findings), 'problem')} in the source: {lines}{more}"
