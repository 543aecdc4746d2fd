"""Calls of a formula's function, made for our own sake: the script notices nothing of them.

They give its value, and what it is like: a sum, whether samples are compared, whether their order counts.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from batchproof.errors import BatchproofError
from batchproof.ground.isolation import RandomState, quiet
from batchproof.ground.text import error_line, first_line
from batchproof.metric import no_autocast
from batchproof.scripts.run.formula import Formula, Unmeasured

Batch = Sequence[torch.Tensor]

#: Bytes that one call on all samples may make at a time.
MOST_WORK = 1 << 30


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


def call(formula: Formula, batch: Batch) -> float:
    """The function's value on a batch.

    Raises:
        Unmeasured: it fails, or gives no single number.
    """
    return number(results(formula, list(map(_widened, batch))))


def results(formula: Formula, batch: Batch) -> Any:
    """All that the function gives for a batch.

    Raises:
        Unmeasured: it fails.
    """
    try:
        return formula.function(*batch)
    except Exception as error:
        raise Unmeasured(f"called again it raises {error_line(error)}") from error


def number(value: Any) -> float:
    """One number.

    Raises:
        Unmeasured: it is none.
    """
    try:
        return float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unmeasured("what is added is not a single number") from error


def join(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return [torch.cat(column) for column in zip(*batches, strict=True)]


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision is what autocast hands to a loss, which computes in single precision.  A copy."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()


def is_narrow(batch: Batch) -> bool:
    return any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in batch)


def reason(error: BaseException) -> str:
    """An error as half a sentence."""
    return first_line(error) if isinstance(error, (BatchproofError, Unmeasured)) else error_line(error)


#: Samples on which it is tried whether they meet.
FEW = 32
#: Relative difference that another order of the samples may make by rounding, in single and double precision.
ROUNDING, ROUNDING_DOUBLE = 2e-5, 1e-9
#: Orders that are tried.
ORDERS = 2


def grows(formula: Formula, batch: Batch) -> bool | None:
    """Whether the value of a batch taken twice is twice that of the batch: a sum; None where that does not show."""
    try:
        with unnoticed(formula, batch[0]):
            once = call(formula, batch)
            twice = call(formula, join([batch, batch]))
    except (Unmeasured, BatchproofError):
        return None
    if not math.isfinite(once) or not math.isfinite(twice) or once == 0:
        return None
    return math.isclose(twice, 2 * once, rel_tol=1e-3)


def unordered(formula: Formula, batches: Sequence[Batch]) -> None:
    """Refuse a function for which the order of the samples counts: of all samples together it is then something else.

    So it is with ``output[1:]`` where time comes first, and where rows i and i + n/2 belong together.

    Raises:
        Unmeasured: the order counts.
    """
    if formula.ordered is None:
        formula.ordered = _is_ordered(formula, join([batch for batch in batches if _alike(batch, batches[0])][:2]))
    if formula.ordered:
        raise Unmeasured("its value depends on the order of the samples, so that batches cannot be put together")


def _alike(batch: Batch, other: Batch) -> bool:
    return [tensor.shape[1:] for tensor in batch] == [tensor.shape[1:] for tensor in other]


def _is_ordered(formula: Formula, batch: Batch) -> bool:
    if is_narrow(batch) or _differs(formula, batch, ROUNDING):
        try:
            doubled = [tensor.double() if tensor.is_floating_point() else tensor for tensor in batch]
            return _differs(formula, doubled, ROUNDING_DOUBLE)
        except Unmeasured:  # not for double precision
            return not is_narrow(batch)
    return False


def _differs(formula: Formula, batch: Batch, tolerance: float) -> bool:
    """Whether the samples in another order give another value."""
    once = call(formula, batch)
    draw = torch.Generator().manual_seed(0)  # the script's own random numbers stay as they are
    for _ in range(ORDERS):
        order = torch.randperm(len(batch[0]), generator=draw)
        again = call(formula, [tensor[order.to(tensor.device)] for tensor in batch])
        if math.isfinite(once) and math.isfinite(again) and abs(once - again) > tolerance * max(abs(once), abs(again)):
            return True
    return False


def affordable(formula: Formula, batch: Batch, samples: int) -> None:
    """Refuse a call whose largest tensor would not fit: samples that meet each other make one of samples × samples.

    Raises:
        Unmeasured: with the size.
    """
    if formula.pair_bytes is None:
        formula.pair_bytes = _pair_bytes(formula, batch)
    needed = formula.pair_bytes * samples**2
    if needed > MOST_WORK:
        raise Unmeasured(
            f"every sample is compared with every other, and all {samples:,} together would take {needed / 1e9:,.0f} GB"
        )


def _pair_bytes(formula: Formula, batch: Batch) -> float:
    """Bytes that are made for each pair of samples; 0 where samples do not meet."""
    rows = min(FEW, len(batch[0]))
    doubled = join([batch, batch])
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
        call(formula, batch)
    return f"({n}, 1) and ({n},)" if n in seen.paired else ""


def _largest(formula: Formula, batch: Batch) -> int | None:
    with _Shapes() as seen:
        try:
            call(formula, batch)
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
        self.squared: set[tuple[int, ...]] = set()  # shapes that were expanded to a square, as torch's losses do first

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        taken = {tuple(part.shape) for part in args if isinstance(part, torch.Tensor)}
        if function is torch.ops.aten.expand.default and result.ndim == 2 and result.shape[0] == result.shape[1]:
            self.squared |= taken
            taken = self.squared
        self.paired |= {shape[0] for shape in taken if len(shape) == 1 and (shape[0], 1) in taken}
        return result
