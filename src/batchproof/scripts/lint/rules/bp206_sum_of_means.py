"""BP206: means of batches, added up and reported as they stand."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, says
from batchproof.scripts.source import Topic

RULE = Rule(
    __file__,
    Severity.WARNING,
    "means of batches, added up and reported as they stand",
    topic=Topic.SUM_OF_MEANS,
    suspicion=says(
        "{} and is reported without a division: it falls as the batch size grows",
        "weight each batch by its number of samples, and divide by their sum",
    ),
)
