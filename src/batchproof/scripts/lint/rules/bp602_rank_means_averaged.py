"""BP602: a mean of each rank, averaged over ranks that may have unequal shares."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.NOTE,
    "a mean of each rank, averaged over ranks that may have unequal shares",
    topic=Topic.RANK_MEANS,
    suspicion=says(
        "the mean over ranks of each rank's mean is that of all samples only where ranks have equally many: {}",
        "add the sum and the count up over the ranks, and divide once",
    ),
)
