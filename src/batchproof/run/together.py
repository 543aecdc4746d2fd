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
from collections.abc import Callable, Iterator, Sequence
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

Batch = tuple[torch.Tensor, ...]

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
        kept: batches that wait.
        values: what the script added for each of them.
        folded: those that were folded.
        is_checked: whether the script added something for each batch, with which the function is compared.
    """

    formula: Formula
    kept: list[Batch] = field(default_factory=list)
    versions: list[tuple[int | None, ...]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    nbytes: int = 0
    folded: Exact | None = None
    samples: int = 0
    is_checked: bool = True

    def add(self, batch: Batch, versions: tuple[int | None, ...], value: Any) -> None:
        """Keep a batch; fold what is kept where it becomes too much.

        Raises:
            Unmeasured: its tensors do not have one number of samples.
        """
        n = batch[0].shape[0]
        for tensor in batch[1:]:
            if tensor.shape[0] != n:
                raise Unmeasured(f"what it is computed from does not have one number of samples: {_shapes(batch)}")
        self.kept.append(batch)
        self.versions.append(versions)
        self.values.append(value)
        self.samples += n
        self.nbytes += sum(tensor.nbytes for tensor in batch)
        if self.nbytes > MOST_BYTES:
            with unnoticed(self.formula, batch[0]):
                self.fold()

    def fold(self) -> None:
        """Fold what is kept into a state.

        Raises:
            Unmeasured: it cannot be.
        """
        self.checked()
        if self.folded is None:
            self.folded = exact(self.formula.function)
        try:
            for group in _alike(self.kept):
                self.folded.update(*_joined(group))
        except Exception as error:
            raise Unmeasured(reason(error)) from error
        if self.folded.n_samples >= FEW and not self.folded.plan.is_constant_size:
            room = self.folded.n_samples * sum(tensor[:1].nbytes for tensor in self.kept[0])
            if room > MOST_WORK:
                raise Unmeasured(f"the samples themselves would have to be kept, and take {room / 1e9:.1f} GB")
        self.kept, self.versions, self.values, self.nbytes = [], [], [], 0

    def checked(self) -> None:
        """Refuse batches that were written to, or for which the function does not give what the script added.

        Raises:
            Unmeasured: which of these.
        """
        for batch, versions in zip(self.kept, self.versions, strict=True):
            for tensor, then, name in zip(batch, versions, self.formula.names, strict=True):
                if then is not None and tensor._version != then:
                    raise Unmeasured(f"{name} is written to after it was used")
        last = len(self.kept) - 1
        if not self.is_checked:
            return
        for index in sorted({0, last // 2, last}):
            given = called(self.formula, self.kept[index])
            added = number(self.values[index])
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
            if self.folded is not None or len(_alike(self.kept)) > 1:
                self.fold()
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
    rows = [min(FEW, batch[0].shape[0]), min(2 * FEW, 2 * batch[0].shape[0])]
    doubled = _joined([batch, batch])
    small, large = (_largest(formula, tuple(t[:n] for t in doubled)) for n in rows)
    if rows[0] < 2 or small is None or large is None or large <= 3 * small:
        return
    needed = large * (samples / rows[1]) ** 2
    if needed > MOST_WORK:
        raise Unmeasured(f"samples meet each other, and all {samples:,} together would take {needed / 1e9:,.0f} GB")


def meets(formula: Formula, batch: Batch) -> bool:
    """Whether a tensor with a row and a column for each sample is made."""
    n = batch[0].shape[0]
    try:
        with unnoticed(formula, batch[0]), _Shapes() as seen:
            called(formula, batch)
    except Unmeasured:
        return False
    return n > 2 and any(shape.count(n) >= 2 for shape in seen.shapes)


def _largest(formula: Formula, batch: Batch) -> int | None:
    with _Shapes() as seen:
        try:
            called(formula, batch)
        except Unmeasured:
            return None
    return seen.largest


class _Shapes(TorchDispatchMode):
    """Notes the tensors that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
                self.shapes.add(tuple(tensor.shape))
        return result


def _alike(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Batches whose samples have one shape."""
    groups: dict[Any, list[Batch]] = {}
    for batch in batches:
        groups.setdefault(tuple((t.dtype, t.shape[1:]) for t in batch), []).append(batch)
    return list(groups.values())


def _joined(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return tuple(torch.cat(column) for column in zip(*batches, strict=True))


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision is what autocast hands to a loss, which computes in single precision.  A copy: it may be changed.
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()


def _is_narrow(batch: Batch) -> bool:
    return any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in batch)


def _same(a: float, b: float, tolerance: float) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-6)


def _shapes(batch: Batch) -> str:
    return " and ".join(str(tuple(tensor.shape)) for tensor in batch)


def reason(error: BaseException) -> str:
    """An error as half a sentence."""
    return first_line(error) if isinstance(error, (BatchproofError, Unmeasured)) else f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


Way = Callable[..., Any]
