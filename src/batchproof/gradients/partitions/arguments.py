"""A batch as the arguments of a loss: one, several in order, or by the names of parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batchproof.explanation import Samples


def arguments_of(
    loss_fn: Callable[..., Any], batch: Any, taken: Sequence[str]
) -> tuple[tuple[Any, ...], dict[str, Any], Callable[[Samples], Any]]:
    """The batch as arguments, and how it is made of samples again."""
    if isinstance(batch, Mapping) and all(isinstance(key, str) for key in batch):
        try:
            inspect.signature(loss_fn).bind_partial(**batch, **dict.fromkeys(taken))
        except (TypeError, ValueError):
            return (batch,), {}, lambda samples: samples.all()[0][0]
        return (), dict(batch), lambda samples: samples.all()[1]
    if isinstance(batch, (tuple, list)):
        return tuple(batch), {}, lambda samples: tuple(samples.all()[0])
    return (batch,), {}, lambda samples: samples.all()[0][0]
