"""A PartitionCheck as a document: which of its parts the reader sees, and in what words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from batchproof.ground.text import counted, sentence
from batchproof.report.document import Brief, Column, Document, Group, Reason, Sheet
from batchproof.report.numbers import aligned

if TYPE_CHECKING:
    from batchproof.gradients.partitions import PartitionCheck
    from batchproof.gradients.partitions.result import CutReading

#: So many weights are shown.
MOST = 8


def document(check: PartitionCheck) -> Document:
    """What is shown of a check."""
    return Document(
        title=check.target,
        place=check.place,
        state=check.ok if check.readings else None,
        headline=check.summary,
        reasons=tuple(Reason(one.title, one.what, one.place, one.remedy) for one in check.findings),
        brief=Brief(
            tables=(_table(check),) if check.readings else (),
            remarks=tuple(map(sentence, _remarks(check))),
            closing=f"{counted(check.samples, 'sample')}, the loss called {check.calls:,} times",
        ),
    )


def _table(check: PartitionCheck) -> Sheet:
    rows = check.readings
    columns = (
        _column("loss", [_value(row) for row in rows]),
        _column("value off", ["" if row.is_same else share(row.value_off) for row in rows]),
        _column("gradient off", ["" if row.is_same else share(row.gradient_off) for row in rows]),
        Column("with", tuple(row.how for row in rows), is_left=True),
    )
    marks = tuple(f"{'✓' if row.is_same else '✗'} {row.cut}" for row in rows)
    return Sheet(marks, (Group("", columns),), label="cut by", in_words=True, is_stacked=True).filled


def _remarks(check: PartitionCheck) -> list[str]:
    found = []
    if check.aggregation is not None:
        found.append(f"the loss is {check.aggregation.title}")
    broken = next((row for row in check.readings if not row.is_same and row.weights), None)
    if broken is not None:
        weights = [weight for rank in broken.weights for weight in rank]
        shown = ", ".join(f"{weight:.4g}" for weight in weights[:MOST]) + (", ..." if len(weights) > MOST else "")
        found.append(f"the sum of the pieces times {shown} is the loss on the whole batch ({broken.how})")
    found += [f"{kind} was not tried: {why}" for kind, why in check.not_tried.items()]
    return [*found, *check.notes]


def share(off: float) -> str:
    """``12.5%``, ``3e-05``, ``40x``."""
    if not math.isfinite(off):
        return "-"
    return f"{off:.0e}" if off < 1e-3 else f"{off:.1%}" if off < 10 else f"{off:,.0f}x"


def _value(row: CutReading) -> str:
    return "fails" if row.raised else f"{row.value:.6g}"


def _column(title: str, texts: list[str]) -> Column:
    return Column(title, tuple(aligned(texts)))
