"""BP302: an evaluation loader with drop_last=True."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "an evaluation loader with drop_last=True",
    topic=Topic.DROPPED_TAIL,
    suspicion=says(
        "{}: samples that do not fill a batch are never scored",
        "drop_last=False, and weight each batch by its size",
    ),
)
