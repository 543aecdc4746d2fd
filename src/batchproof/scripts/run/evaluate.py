"""Calls of a formula's function, made for our own sake: the script notices nothing of them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

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
        raise Unmeasured(f"called again it raises {error_line(error)}") from error


def called_for_all(formula: Formula, batch: Batch) -> tuple[torch.Tensor, ...]:
    """All that the function gives for a batch.

    Raises:
        Unmeasured: it fails.
    """
    try:
        return tuple(formula.function(*batch))
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


def joined(batches: Sequence[Batch]) -> Batch:
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
