"""Exact metrics in Ignite: any function of a batch, attached to an engine."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from batchproof.errors import BatchproofError
from batchproof.integrations.packages import require
from batchproof.metric import Exact, exact

if TYPE_CHECKING:
    Metric: Any = object
else:
    try:
        from ignite.metrics import Metric
    except ImportError:
        Metric = object


class ExactMetric(Metric):  # type: ignore[misc]
    """A metric for Ignite's engines that gives a function's value on all samples of the epoch, however batched.

    >>> import torch
    >>> from ignite.engine import Engine
    >>> from batchproof.integrations.ignite import ExactMetric
    >>> def rmse(pred, real):
    ...     return (pred - real).square().mean().sqrt()
    >>> evaluator = Engine(lambda engine, batch: batch)
    >>> ExactMetric(rmse).attach(evaluator, "rmse")
    >>> batches = [(torch.zeros(2), torch.ones(2)), (torch.zeros(1), torch.full((1,), 5.0))]
    >>> evaluator.run(batches).metrics
    {'rmse': 3.0}

    Over ranks each compute merges their states; updates, checkpoints and another compute may follow.

    Args:
        fn: As `batchproof.exact` takes it. It gets what the engine returns for a batch: a tuple as its arguments, a
            dict as its keyword arguments, or as the first two where these are ``y_pred`` and ``y``.
        output_transform: From the engine's output to ``fn``'s arguments.
        n_samples: How many samples an epoch has, over all ranks. A ``DistributedSampler`` repeats some to give every
            rank as many: loop over ``batchproof.integrations.repeats.without_repeats(loader)``, and with this no repeat
            goes unnoticed.
        options: Those of `batchproof.exact`.

    Raises:
        BatchproofError: Ignite is missing, or as `batchproof.exact`, its ``update`` and its ``sync`` raise.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        output_transform: Callable[[Any], Any] = lambda output: output,
        *,
        n_samples: int | None = None,
        **options: Any,
    ) -> None:
        require("ignite.metrics", "pytorch-ignite")
        self.exact: Exact = exact(fn, **options)
        self.n_samples = n_samples
        super().__init__(output_transform, skip_unrolling=True)

    def reset(self) -> None:
        self.exact.reset()

    def iteration_completed(self, engine: Any) -> None:
        """Take in what the engine returned for a batch."""
        self.update(self._output_transform(engine.state.output))

    def update(self, output: Any) -> None:
        if isinstance(output, Mapping):
            args, named = _arguments(self.exact.fn, output)
            self.exact.update(*args, **named)
        elif isinstance(output, (tuple, list)):
            self.exact.update(*output)
        else:
            self.exact.update(output)

    def compute(self) -> Any:
        self._merge(self.n_samples)
        if self.exact.n_samples == 0:
            raise require("ignite.exceptions", "pytorch-ignite").NotComputableError(
                "an exact metric must have at least one example before it can be computed"
            )
        if self.n_samples is not None and self.exact.n_samples != self.n_samples:
            raise BatchproofError(f"the metric holds {self.exact.n_samples:,} samples, not {self.n_samples:,}")
        return self.exact.compute()

    def _merge(self, n_samples: int | None = None) -> None:
        if require("ignite.distributed", "pytorch-ignite").get_world_size() == 1:
            return
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise BatchproofError("ranks are merged over torch.distributed, which is not initialised here")
        self.exact.sync(n_samples=n_samples)

    def state_dict(self) -> OrderedDict[str, Any]:
        """All ranks' samples, to save and load: each rank may load what any of them saved."""
        self._merge()
        return OrderedDict(exact=self.exact.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.exact.load_state_dict(state_dict["exact"])


def _arguments(fn: Callable[..., Any], output: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """An engine's output as a function's arguments."""
    try:
        inspect.signature(fn).bind(**output)
    except TypeError:
        if {*output} >= {"y_pred", "y"}:
            return [output["y_pred"], output["y"]], {}
        names = ", ".join(map(str, output))
        raise BatchproofError(
            f"the engine's output has {names}, which are not the function's arguments; pass an output_transform"
        ) from None
    except ValueError:  # a function without a signature
        return list(output.values()), {}
    return [], dict(output)
