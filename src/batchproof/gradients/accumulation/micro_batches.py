"""The micro-batches of one gradient, and the forward pass over each: once, or twice in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.replay import Moment, Replay
from batchproof.ground.batch import Batch
from batchproof.ground.isolation import no_graph


class MicroBatches:
    """The micro-batches of one gradient, which may be looked at ahead of time.

    Attributes:
        replayable: whether they can be gone through again.
    """

    def __init__(self, micro_batches: Iterable[Any]) -> None:
        if isinstance(micro_batches, (Tensor, Mapping, str)) or not isinstance(micro_batches, Iterable):
            raise BatchproofError(
                f"micro_batches must be a list of micro-batches, not {type(micro_batches).__name__}: "
                "batch.split(8) makes one of a tensor"
            )
        self.parts = micro_batches
        self.rest: Iterator[Any] = iter(micro_batches if isinstance(micro_batches, Iterator) else ())
        self.replayable = not isinstance(micro_batches, Iterator)
        self.held: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts) if self.replayable else chain(self.held, self.rest)

    def peek(self) -> Iterator[Any]:
        """The first ones, which will come again."""
        if self.replayable:
            yield from self.parts
            return
        for part in self.rest:
            self.held.append(part)
            yield part
        self.parts, self.replayable = self.held, True


@dataclass
class ForwardPasses:
    """The forward passes over micro-batches: one round of them, or two that are alike.

    Attributes:
        moments: from where each forward pass of the first of two rounds began.
        begin: from where that round began.
        end: where it ended.
        differentiates: whether forward takes a derivative itself, which it cannot where gradients are off.
    """

    outputs: Callable[[Any], Batch]
    micro_batches: Iterable[Any]
    replay: Replay
    moments: list[Moment] = field(default_factory=list)
    begin: Moment | None = None
    end: Moment | None = None
    differentiates: bool = False

    def once(self) -> Iterator[Batch]:
        """The outputs of each micro-batch, with their graph."""
        for micro_batch in self.micro_batches:
            yield self.outputs(micro_batch)

    def bare(self, micro_batch: Any, start: Moment) -> Batch:
        """The outputs of one micro-batch without a graph.

        Args:
            micro_batch: what forward takes.
            start: now.
        """
        if not self.differentiates:
            try:
                with no_graph():
                    return self.outputs(micro_batch)
            except RuntimeError as error:
                # forces, penalties and scores are derivatives that forward takes: of what has no graph there is none
                if "require grad" not in str(error):
                    raise
            self.differentiates = True
            self.replay.at(start)
        with torch.enable_grad():
            call = self.outputs(micro_batch)
        return replace(call, leaves=[leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in call.leaves])

    def first(self, graph_of_first: bool) -> Iterator[Batch]:
        """The outputs of each without a graph, but for the first one's if asked."""
        self.begin, self.moments = self.replay.moment(), []
        for micro_batch in self.micro_batches:
            start = self.replay.moment()
            with_graph = graph_of_first and not self.moments
            self.moments.append(start)
            call = self.outputs(micro_batch) if with_graph else self.bare(micro_batch, start)
            yield call
            del call
        self.end = self.replay.moment()

    def again(self) -> Iterator[Batch]:
        """The second round, with a graph: each forward pass from where it began the first time.

        Raises:
            BatchproofError: the micro-batches are not there a second time.
        """
        assert self.begin is not None
        assert self.end is not None
        self.replay.at(self.begin)  # a loader shuffles anew, as it did
        count = 0
        for micro_batch in self.micro_batches:
            if count < len(self.moments):
                self.replay.at(self.moments[count])
                yield self.outputs(micro_batch)
            count += 1
        if count != len(self.moments):
            raise BatchproofError(
                f"micro_batches gave {len(self.moments)} micro-batches in the first pass and {count} in the second, "
                "which this loss needs: pass a list of them"
            )
        self.replay.at(self.end)
