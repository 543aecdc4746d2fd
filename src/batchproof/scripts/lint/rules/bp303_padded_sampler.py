"""BP303: a DistributedSampler in evaluation, which repeats samples to make the ranks even."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "a DistributedSampler in evaluation, which repeats samples to make the ranks even",
    topic=Topic.PADDED_SAMPLER,
    suspicion=says(
        "{}, and those that are repeated are scored twice",
        "evaluate on a Subset of every world_size-th sample, or drop the repeated samples after gathering",
    ),
)
