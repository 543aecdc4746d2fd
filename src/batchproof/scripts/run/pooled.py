"""The value of a formula on all samples of a pass together, and what tells that this is what the script means.

Batches are kept until the pass ends, and the function is called once on all of them. Where they would take too much
memory they are folded by `exact` on the way. The function is called on single batches too: if it does not give what the
script added, the formula is not the script's, and nothing is said. Where it was asked for, the samples are scored again
with the weights that the pass ends with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.metric import Exact, exact
from batchproof.scripts.run.evaluate import (
    FEW,
    MOST_WORK,
    Batch,
    affordable,
    call,
    is_narrow,
    join,
    number,
    reason,
    results,
    unnoticed,
    unordered,
)
from batchproof.scripts.run.formula import Formula, Unmeasured, same_function

#: Bytes of batches that are kept for one pass before they are folded.
MOST_BYTES = 1 << 27
#: Relative difference between a batch's value and the formula's, beyond which they are not the same.
SAME = 1e-4
SAME_NARROW = 1e-2


@dataclass
class Batches:
    """The arguments of a formula, batch by batch.

    Attributes:
        formula: the function.
        added: what the script added for each batch, with which the function is compared; None where it added nothing.
        kept: batches that wait.
        versions: how often their tensors had been written to.
        folded: those that were folded.
        samples: how many samples they all have.
        copies: how many samples at the end only fill the last batch, and are left out.
        last_count: how many samples the last batch has.
        fixed: tensors that are the same for every batch, and how often they had been written to.
    """

    formula: Formula
    added: list[Any] | None
    kept: list[Batch] = field(default_factory=list)
    versions: list[Sequence[int | None]] = field(default_factory=list)
    nbytes: int = 0
    batch_bytes: int = 0
    folded: Exact | None = None
    folded_batches: int = 0
    samples: int = 0
    copies: int = 0
    last_count: int = 0
    fixed: list[tuple[torch.Tensor, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        tensors = [value for _, value in self.formula.fixed if isinstance(value, torch.Tensor)]
        self.fixed = [(tensor, tensor._version) for tensor in tensors if not tensor.is_inference()]

    def add(self, batch: Batch, versions: Sequence[int | None], count: int) -> None:
        """Keep a batch; fold what is kept where it becomes too much.

        Raises:
            Unmeasured: it cannot be folded.
        """
        kept = self.kept
        kept.append(batch)
        self.versions.append(versions)
        self.samples += count
        self.last_count = count
        if len(kept) & 15 == 1:  # batches are much alike: not each of them is weighed
            self.batch_bytes = max(self.batch_bytes, sum(tensor.nbytes for tensor in batch))
        self.nbytes += self.batch_bytes
        if self.nbytes > MOST_BYTES:
            with unnoticed(self.formula, batch[0]):
                self.fold(self.groups())

    @property
    def count(self) -> int:
        """How many batches there are."""
        return self.folded_batches + len(self.kept)

    def fold(self, groups: list[list[Batch]]) -> None:
        """Fold what is kept into a state.

        Raises:
            Unmeasured: it cannot be.
        """
        self.checked()
        if self.folded is None:
            self.folded = exact(self.formula.function)
        try:
            for group in groups:
                self.folded.update(*join(group))
        except Exception as error:
            raise Unmeasured(reason(error)) from error
        if self.folded.n_samples >= FEW and not self.folded.plan.is_constant_size:
            room = self.folded.n_samples * sum(tensor[:1].nbytes for tensor in self.kept[0])
            if room > MOST_WORK:
                raise Unmeasured(f"the samples themselves would have to be kept, and take {room / 1e9:.1f} GB")
        self.folded_batches += len(self.kept)
        self.kept, self.versions, self.nbytes = [], [], 0

    def groups(self) -> list[list[Batch]]:
        """What is kept, batches whose samples have one shape together.

        Raises:
            Unmeasured: the tensors of a batch do not have one number of samples.
        """
        found: dict[Any, list[Batch]] = {}
        for batch in self.kept:  # few shapes for many batches: they are looked at once each
            found.setdefault(tuple([tensor.shape for tensor in batch]), []).append(batch)
        groups: dict[Any, list[Batch]] = {}
        for shapes, batches in found.items():
            if len({shape[0] for shape in shapes}) > 1:
                many = " and ".join(str(tuple(shape)) for shape in shapes)
                raise Unmeasured(f"what it is computed from does not have one number of samples: {many}")
            groups.setdefault(tuple([shape[1:] for shape in shapes]), []).extend(batches)
        return list(groups.values())

    def checked(self) -> None:
        """Refuse batches that were written to or whose order counts, and a function that gives not what was added.

        Raises:
            Unmeasured: which of these.
        """
        for index, name in enumerate(self.formula.names):
            for batch, versions in zip(self.kept, self.versions, strict=True):
                if versions[index] is not None and batch[index]._version != versions[index]:
                    raise Unmeasured(f"{name} is written to after it was used")
        if any(tensor._version != version for tensor, version in self.fixed):
            raise Unmeasured("it depends on a tensor that changes from batch to batch")
        if self.added is None:
            return
        last = len(self.kept) - 1
        for index in sorted({0, last // 2, last}):
            given = call(self.formula, self.kept[index])
            added = number(self.added[self.folded_batches + index])
            same = SAME_NARROW if is_narrow(self.kept[index]) else SAME
            if not _same(given, added, same):
                raise Unmeasured(
                    f"evaluated again on a batch it gives {given:.6g}, and the script added {added:.6g}: it depends on "
                    "something that was not seen"
                )
        unordered(self.formula, self.kept)

    def _leave_out_copies(self) -> None:
        """Cut the rows at the end that only fill the last batch.

        Raises:
            Unmeasured: they cannot be cut any more, or batches are no good.
        """
        if not self.kept:
            raise Unmeasured(f"its last {self.copies} samples are copies, and were folded with the others")
        self.checked()
        self.added = None  # what the script added was of the copies, too
        per_sample = {len(tensor) * self.copies / self.last_count for tensor in self.kept[-1]}
        if any(rows % 1 for rows in per_sample):
            raise Unmeasured(f"its last {self.copies} samples are copies, and rows are not those of samples")
        self.kept[-1] = [
            tensor[: len(tensor) - len(tensor) * self.copies // self.last_count] for tensor in self.kept[-1]
        ]
        self.versions[-1] = [None] * len(self.kept[-1])
        self.samples -= self.copies
        self.copies = 0

    def value(self) -> float:
        """The function's value on all samples.

        Raises:
            Unmeasured: it has none, or none that could be computed here.
        """
        like = self.kept[0][0] if self.kept else torch.zeros(1)
        with unnoticed(self.formula, like):
            if self.copies:
                self._leave_out_copies()
            groups = self.groups()
            if self.folded is not None or len(groups) > 1:
                if self.kept:
                    self.fold(groups)
                assert self.folded is not None
                try:
                    return number(self.folded.compute())
                except BatchproofError as error:
                    raise Unmeasured(reason(error)) from error
            self.checked()
            affordable(self.formula, self.kept[0], self.samples)
            return call(self.formula, join(self.kept))


def _same(a: float, b: float, tolerance: float) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-6)


#: Bytes of inputs that are kept for one pass.
MOST_BYTES = 1 << 30


@dataclass
class BatchInputs:
    """What the batches of a pass were computed from.

    Attributes:
        predict: the function that gives a formula's arguments from them.
        formula: that formula.
        kept: batch by batch.
        problem: why there will be no value.
    """

    predict: Formula
    formula: Formula
    kept: list[tuple[Any, ...]] = field(default_factory=list)
    nbytes: int = 0
    problem: str = ""

    def add(self, predict: Formula, batch: tuple[Any, ...]) -> None:
        """A batch's inputs."""
        if not same_function(predict, self.predict):
            self.problem, self.kept = "batches take different ways through the loop", []
        if self.problem:
            return
        self.kept.append(batch)
        self.nbytes += sum(tensor.nbytes for tensor in batch)
        if self.nbytes > MOST_BYTES:
            self.problem, self.kept = f"the inputs of a pass take more than {MOST_BYTES >> 30} GB", []

    def value(self) -> float:
        """The formula on all samples, with the weights as they are now.

        Raises:
            Unmeasured: it cannot be computed.
        """
        if self.problem:
            raise Unmeasured(self.problem)
        again = Batches(self.formula, None)
        with unnoticed(self.predict, self.kept[0][0]):
            for batch in self.kept:
                found = results(self.predict, batch)
                again.add([tensor.detach() for tensor in found], [None] * len(found), len(found[0]))
        return again.value()
