"""The plan as a report: what is kept, how it merges, how large it is, and the user's lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchproof.derive.merge import SUM
from batchproof.ground.text import size_of

if TYPE_CHECKING:
    from batchproof.derive.plan import Leaf, Plan


def plan_text(plan: Plan) -> str:
    """A plan in a few lines.

    Args:
        plan: what `derive` found.
    """
    if plan.is_constant_size:
        head = f"constant size: {size_of(plan.nbytes)} at any number of samples"
    else:
        head = f"samples are kept: {size_of(plan.row_nbytes)} each"
    lines = [head]
    if plan.reason:
        lines.append(f"  why       {plan.reason}")
    if plan.group > 1:
        lines.append(f"  takes     whole groups of {plan.group} samples")
    lines += [f"  {leaf.merge.word:8s}  {_shape(leaf):20s}  {_where(leaf)}".rstrip() for leaf in plan.leaves]
    if plan.is_constant_size:
        lines.append(f"  {SUM.word:8s}  count of samples")
    if plan.verified.partitions:
        lines.append(f"  verified  on {plan.verified.partitions} partitions, relative error {plan.verified.error:.0e}")
    return "\n".join(lines)


def _shape(leaf: Leaf) -> str:
    dims = "x".join(str(size) for size in leaf.shape) or "number"
    return f"{dims} at {leaf.points} centres" if leaf.points > 1 else dims


def _where(leaf: Leaf) -> str:
    if not leaf.site.line:
        return ""
    text = leaf.site.text if len(leaf.site.text) <= 60 else leaf.site.text[:57] + "..."
    return f"{Path(leaf.site.file).name}:{leaf.site.line}  {text}"
