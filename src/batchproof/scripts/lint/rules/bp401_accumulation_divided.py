"""BP401: a loss that is no plain mean, divided by the number of accumulation steps."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "a loss that is no plain mean, divided by the number of accumulation steps",
    topic=Topic.DIVIDED_ACCUMULATION,
    suspicion=says(
        "the loss is divided by the number of accumulation steps, which is right for a plain mean only: {}",
        "batchproof.accumulate, or divide a summed loss by the whole window's denominator",
    ),
)
