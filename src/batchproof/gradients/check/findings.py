"""What was found so far of why two gradients differ."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchproof.explanation import Finding
from batchproof.gradients.check.result import GradientCode, MicroBatchWeights


@dataclass
class Diagnosis:
    """The causes, the strongest evidence first, and what goes with them."""

    findings: list[Finding[GradientCode]] = field(default_factory=list)
    weights: MicroBatchWeights | None = None
    alternatives: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
