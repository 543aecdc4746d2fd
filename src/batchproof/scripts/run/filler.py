"""Samples that a loader repeats to fill its last batch: they are copies, and no part of the exact value.

``DistributedSampler`` says which they are. Of a loader of the script's own they are found by the identity of rows: the
last rows of the pass are one sample over and over, or those that the pass began with, and no other sample of the pass
comes twice. Where others do, equal rows may be what the data is like: then nothing is said, or there is no exact value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from batchproof.scripts.run.loaders import own_padding
from batchproof.scripts.run.trace import is_a, is_tensor

#: Samples of which none comes twice, below which that tells nothing.
FEWEST = 8


@dataclass
class RowWatch:
    """The rows of a pass, batch by batch: of each a fingerprint, of the first and the last batch the rows themselves.

    Attributes:
        known: how many copies end the pass, where the loader says so; None where the rows must say it.
    """

    known: int | None = None
    first: list[Any] = field(default_factory=list)
    last: list[Any] = field(default_factory=list)
    fingerprints: list[Any] = field(default_factory=list)
    off: bool = False

    @classmethod
    def of(cls, loader: Any) -> RowWatch:
        """For a pass over a loader that is about to begin."""
        if is_a(loader, "torch.utils.data", "DataLoader"):
            return cls(known=own_padding(loader))
        return cls()

    def note(self, target: Any) -> None:
        """A batch."""
        if self.known is None and not self.off:
            try:
                self._note(target)
            except Exception:  # noqa: BLE001 - rows of a kind that cannot be looked at
                self.off = True

    def _note(self, target: Any) -> None:
        import torch

        columns = [torch.as_tensor(part) for part in _columns(target)]
        rows = {len(column) for column in columns}
        if len(rows) != 1 or (self.first and len(self.first[0]) not in rows):
            self.off = True  # no batch is filled where they are not all of one size
            return
        with torch.no_grad():
            self.fingerprints.append(torch.stack([_fingerprint(column) for column in columns], 1))
        self.last = columns
        self.first = self.first or columns

    def copies(self) -> tuple[int, str]:
        """How many rows at the end of the pass are copies; and why that cannot be told, where it cannot."""
        if self.known is not None or self.off or not self.last:
            return self.known or 0, ""
        same = _run_at_end(self.last)
        if same > 1 and (len(self.fingerprints) > 1 or same < len(self.last[0])):
            return self._judge(same - 1, f"its last {same} samples are one and the same")
        again = _beginning_again(self.first, self.last) if len(self.fingerprints) > 1 else 0
        if again:
            return self._judge(again, f"its last {again} samples are those that it began with")
        return 0, ""

    def _judge(self, copies: int, what: str) -> tuple[int, str]:
        import torch

        prints = torch.cat(self.fingerprints).cpu()
        others = prints[: len(prints) - copies]
        if len(torch.unique(others, dim=0)) == len(others) and len(others) >= FEWEST:
            return copies, ""
        if _longest_run(others) > copies or (copies == 1 and len(others) >= FEWEST):
            return 0, ""  # such is the data
        return 0, f"{what}: whether they are copies that fill the last batch is not known"


def _columns(target: Any, depth: int = 3) -> Iterator[Any]:
    """The tensors and arrays of a batch."""
    numpy = sys.modules.get("numpy")
    if is_tensor(target) or (numpy is not None and isinstance(target, numpy.ndarray) and target.dtype.kind in "biuf"):
        if target.ndim:
            yield target.detach() if is_tensor(target) else target
    elif depth and isinstance(target, (tuple, list, dict)):
        for part in target.values() if isinstance(target, dict) else target:
            yield from _columns(part, depth - 1)


def _fingerprint(column: Any) -> Any:
    """A number for each row: rows that differ have different ones, as good as surely."""
    import torch

    flat = column.reshape(len(column), -1)
    flat = flat.double() if flat.dtype.is_floating_point or not flat.dtype.is_complex else flat.abs().double()
    weights = torch.cos(torch.arange(1, flat.shape[1] + 1, dtype=torch.float64, device=flat.device))
    return (flat * weights).sum(1)


def _run_at_end(columns: list[Any]) -> int:
    """How many rows at the end are equal to the last one."""
    equal = [(column == column[-1:]).reshape(len(column), -1).all(1) for column in columns]
    differs = (~_all(equal)).nonzero()
    return len(columns[0]) - (int(differs[-1]) + 1 if len(differs) else 0)


def _all(masks: list[Any]) -> Any:
    found = masks[0]
    for mask in masks[1:]:
        found = found & mask
    return found


def _beginning_again(first: list[Any], last: list[Any]) -> int:
    """How many rows at the end are those of the beginning, in their order."""
    rows = len(last[0])
    for count in range(rows - 1, 0, -1):
        if all(bool((one[:count] == other[rows - count :]).all()) for one, other in zip(first, last, strict=True)):
            return count
    return 0


def _longest_run(prints: Any) -> int:
    """Of equal neighbours, in rows."""
    longest = run = 1
    for same in (prints[1:] == prints[:-1]).all(1).tolist():
        run = run + 1 if same else 1
        longest = max(longest, run)
    return longest
