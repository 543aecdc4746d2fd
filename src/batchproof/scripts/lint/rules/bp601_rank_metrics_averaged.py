"""BP601: a ratio or a nonlinear metric of each rank, averaged over the ranks."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "a ratio or a nonlinear metric of each rank, averaged over the ranks",
    topic=Topic.RANK_METRICS,
    suspicion=says(
        "each rank computes this of its own samples, and the mean over the ranks is another number: {}",
        "add numerator and denominator up over the ranks and divide once, or gather the predictions",
    ),
)
