"""BP501: a prediction of shape (B, 1) against a target of shape (B,)."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.ERROR,
    "a prediction of shape (B, 1) against a target of shape (B,)",
    topic=Topic.BROADCAST_SHAPES,
    suspicion=says(
        "every prediction is compared with every target: {}",
        "give both the same shape, as in pred.squeeze(1)",
    ),
)
