"""All rules, one file a family, each with its page."""

from __future__ import annotations

from batchproof.scripts.lint.rules import evaluation, per_batch, totals, training, weights
from batchproof.scripts.lint.rules.rule import Rule, Verdict

RULES: tuple[Rule, ...] = (*per_batch.RULES, *weights.RULES, *totals.RULES, *evaluation.RULES, *training.RULES)
#: By code, in the order of the codes.
BY_CODE = {rule.code: rule for rule in RULES}
CODES = tuple(BY_CODE)

__all__ = ["BY_CODE", "CODES", "RULES", "Rule", "Verdict"]
