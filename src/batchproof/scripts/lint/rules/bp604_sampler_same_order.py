"""BP604: a DistributedSampler that is never told the epoch."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "a DistributedSampler that is never told the epoch",
    topic=Topic.SAME_ORDER,
    suspicion=says(
        "{}: every epoch goes through the samples in the same order, cut into the same batches",
        "sampler.set_epoch(epoch) at the beginning of each epoch",
    ),
)
