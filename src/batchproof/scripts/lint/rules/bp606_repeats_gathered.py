"""BP606: an evaluation that gathers samples which the loader has repeated."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "an evaluation that gathers samples which the loader has repeated",
    topic=Topic.REPEATS,
    suspicion=says(
        "{}: in the last batch they count twice",
        "accelerator.gather_for_metrics of one row for each sample, and reduce after it",
    ),
)
