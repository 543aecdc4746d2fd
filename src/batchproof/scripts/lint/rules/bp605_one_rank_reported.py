"""BP605: the first rank's number, reported as that of all samples."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "the first rank's number, reported as that of all samples",
    topic=Topic.ONE_RANK,
    suspicion=says(
        "{}, which is one part in as many as there are ranks",
        "add the sum and the count up over the ranks before dividing, with dist.all_reduce",
    ),
)
