"""BP603: a loss divided by the number of ranks, where gradients are averaged over them already."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "a loss divided by the number of ranks, where gradients are averaged over them already",
    topic=Topic.LOSS_OVER_RANKS,
    suspicion=says(
        "{}, and gradients are averaged over the ranks already: they are too small by that number",
        "backward of the loss itself; average a copy of it for the log",
    ),
)
