"""BP301: what is reported after the loop is the last batch's value."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "what is reported after the loop is the last batch's value",
    topic=Topic.ONLY_LAST_BATCH,
    suspicion=says(
        "{}, and the other batches are lost",
        "add up over the batches, weighted by their sizes, and report the average",
    ),
)
