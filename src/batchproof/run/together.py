"""The value of a formula on all samples of a pass together, and what tells that this is what the script means.

Batches are kept until the pass ends, and the function is called once on all of them. Where they would take too much
memory they are folded by `exact` on the way. The function is called on single batches too: if it does not give what the
script added, the formula is not the script's, and nothing is said.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from batchproof.errors import BatchproofError
from batchproof.exact import Exact, exact
from batchproof.random_state import RandomState
from batchproof.run.formula import Formula, Unmeasured
from batchproof.streaming.folding import no_autocast
from batchproof.streaming.modules import quiet

Batch = Sequence[torch.Tensor]

#: Bytes of batches that are kept for one pass before they are folded.
MOST_BYTES = 1 << 27
#: Bytes that one call on all samples may make at a time.
MOST_WORK = 1 << 30
#: Relative difference between a batch's value and the formula's, beyond which they are not the same.
SAME = 1e-4
SAME_NARROW = 1e-2
FEW = 32


@contextlib.contextmanager
def unnoticed(formula: Formula, like: torch.Tensor) -> Iterator[None]:
    """Calls made for our own sake: nothing is printed, drawn, recorded for gradients or left changed."""
    random = RandomState.read()
    shown = warnings.showwarning
    warnings.showwarning = lambda *args, **kwargs: None
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            torch.inference_mode(False),
            torch.no_grad(),
            no_autocast(like),
            quiet(_Held(formula)),
        ):
            yield
    finally:
        warnings.showwarning = shown
        random.put_back()


class _Held:
    """What a formula's function can reach."""

    def __init__(self, formula: Formula) -> None:
        self.fixed = [value for _, value in formula.fixed]

    def __call__(self) -> None:
        """Callable, so that its parts are looked at."""


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

    def add(self, batch: Batch, versions: Sequence[int | None], count: int) -> None:
        """Keep a batch; fold what is kept where it becomes too much.

        Raises:
            Unmeasured: it cannot be folded.
        """
        kept = self.kept
        kept.append(batch)
        self.versions.append(versions)
        self.samples += count
        if len(kept) & 15 == 1:  # batches are much alike: not each of them is weighed
            self.batch_bytes = max(self.batch_bytes, sum(tensor.nbytes for tensor in batch))
        self.nbytes += self.batch_bytes
        if self.nbytes > MOST_BYTES:
            with unnoticed(self.formula, batch[0]):
                self.fold(self.groups())

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
                self.folded.update(*_joined(group))
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
        """Refuse batches that were written to, or for which the function does not give what the script added.

        Raises:
            Unmeasured: which of these.
        """
        for index, name in enumerate(self.formula.names):
            for batch, versions in zip(self.kept, self.versions, strict=True):
                if versions[index] is not None and batch[index]._version != versions[index]:
                    raise Unmeasured(f"{name} is written to after it was used")
        if self.added is None:
            return
        last = len(self.kept) - 1
        for index in sorted({0, last // 2, last}):
            given = called(self.formula, self.kept[index])
            added = number(self.added[self.folded_batches + index])
            same = SAME_NARROW if _is_narrow(self.kept[index]) else SAME
            if not _same(given, added, same):
                raise Unmeasured(
                    f"evaluated again on a batch it gives {given:.6g}, and the script added {added:.6g}: it depends on "
                    "something that was not seen"
                )

    def value(self) -> float:
        """The function's value on all samples.

        Raises:
            Unmeasured: it has none, or none that could be computed here.
        """
        like = self.kept[0][0] if self.kept else torch.zeros(1)
        with unnoticed(self.formula, like):
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
            return called(self.formula, _joined(self.kept))


def called(formula: Formula, batch: Batch) -> float:
    """The function on a batch.

    Raises:
        Unmeasured: it fails, or gives no single number.
    """
    try:
        return number(formula.function(*map(_widened, batch)))
    except Unmeasured:
        raise
    except Exception as error:
        raise Unmeasured(f"called again it raises {type(error).__name__}: {first_line(error)}") from error


def called_for_all(formula: Formula, batch: Batch) -> tuple[torch.Tensor, ...]:
    """All that the function gives for a batch.

    Raises:
        Unmeasured: it fails.
    """
    try:
        return tuple(formula.function(*batch))
    except Exception as error:
        raise Unmeasured(f"called again it raises {type(error).__name__}: {first_line(error)}") from error


def number(value: Any) -> float:
    """One number.

    Raises:
        Unmeasured: it is none.
    """
    try:
        return float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unmeasured("what is added is not a single number") from error


def grows(formula: Formula, batch: Batch) -> bool | None:
    """Whether the value of a batch taken twice is twice that of the batch: a sum; None where that does not show."""
    try:
        with unnoticed(formula, batch[0]):
            once = called(formula, batch)
            twice = called(formula, _joined([batch, batch]))
    except (Unmeasured, BatchproofError):
        return None
    if not math.isfinite(once) or not math.isfinite(twice) or once == 0:
        return None
    return math.isclose(twice, 2 * once, rel_tol=1e-3)


def affordable(formula: Formula, batch: Batch, samples: int) -> None:
    """Refuse a call whose largest tensor would not fit: samples that meet each other make one of samples × samples.

    Raises:
        Unmeasured: with the size.
    """
    if formula.pair_bytes is None:
        formula.pair_bytes = _pair_bytes(formula, batch)
    needed = formula.pair_bytes * samples**2
    if needed > MOST_WORK:
        raise Unmeasured(f"samples meet each other, and all {samples:,} together would take {needed / 1e9:,.0f} GB")


def _pair_bytes(formula: Formula, batch: Batch) -> float:
    """Bytes that are made for each pair of samples; 0 where samples do not meet."""
    rows = min(FEW, len(batch[0]))
    doubled = _joined([batch, batch])
    small, large = (_largest(formula, tuple(tensor[:count] for tensor in doubled)) for count in (rows, 2 * rows))
    if rows < 2 or small is None or large is None or large <= 3 * small:
        return 0.0
    return large / (2 * rows) ** 2


def broadcast(formula: Formula, batch: Batch) -> str:
    """The shapes ``(B, 1)`` and ``(B,)``, where an operation pairs every sample with every other one by them."""
    n = batch[0].shape[0]
    if n < 3:
        return ""
    with unnoticed(formula, batch[0]), _Shapes() as seen, contextlib.suppress(Unmeasured):
        called(formula, batch)
    return f"({n}, 1) and ({n},)" if n in seen.paired else ""


def _largest(formula: Formula, batch: Batch) -> int | None:
    with _Shapes() as seen:
        try:
            called(formula, batch)
        except Unmeasured:
            return None
    largest: int = seen.largest
    return largest


class _Shapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the tensors that are made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest: int = 0
        self.paired: set[int] = set()  # lengths of a row and a column that met

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        taken = {tuple(part.shape) for part in args if isinstance(part, torch.Tensor)}
        self.paired |= {shape[0] for shape in taken if len(shape) == 1 and (shape[0], 1) in taken}
        return result


def _joined(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return [torch.cat(column) for column in zip(*batches, strict=True)]


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision is what autocast hands to a loss, which computes in single precision.  A copy."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()


def _is_narrow(batch: Batch) -> bool:
    return any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in batch)


def _same(a: float, b: float, tolerance: float) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-6)


def reason(error: BaseException) -> str:
    """An error as half a sentence."""
    return (
        first_line(error)
        if isinstance(error, (BatchproofError, Unmeasured))
        else f"{type(error).__name__}: {first_line(error)}"
    )


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
