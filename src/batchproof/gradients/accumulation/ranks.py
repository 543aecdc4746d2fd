"""The processes that train one model together: their statistics, outputs and gradients, added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from batchproof.derive import Diverged
from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.grad_store import Ledger, leaves_of
from batchproof.gradients.accumulation.sharding import (
    every_shard,
    factor_of,
    group_of,
    here,
    is_sharded,
    managed,
    measuring,
    shards_behind,
)
from batchproof.gradients.accumulation.wrappers import refuse_wrapped
from batchproof.ground.batch import Batch, join
from batchproof.metric import GroupedState, moved, on_cpu, reduce

#: All ranks compute the loss from the same sums, so it differs by rounding at most.
SAME_LOSS = 1e-5


class Ranks:
    """The process group whose samples count as one batch; a single process where there is none."""

    def __init__(self, group: Any, modules: Sequence[torch.nn.Module]) -> None:
        parts = [part for module in modules for part in module.modules()]
        self.wrapped = [part for part in parts if isinstance(part, DistributedDataParallel)]
        if group is None:
            group = self.wrapped[0].process_group if self.wrapped else group_of(parts)
        self.group = group
        if group is not None and not (dist.is_available() and dist.is_initialized()):
            raise BatchproofError("group= needs torch.distributed: call torch.distributed.init_process_group first")
        self.pairs: dict[Tensor, Tensor] = {}  # what was put together of shards for a pass, and the shards
        self.measured: dict[Tensor, tuple[float, float]] = {}  # of these, what becomes of a gradient
        self.together = self.group is not None
        self.size = dist.get_world_size(self.group) if self.together else 1
        self.number = dist.get_rank(self.group) if self.together else 0
        parameters: list[Tensor] = [p for m in modules for p in m.parameters() if p.requires_grad]
        self.parameters = list(dict.fromkeys(parameters))
        self.device = next((p.device for p in self.parameters), torch.device("cpu"))
        self.told = False  # whether the ranks know that one of them cannot go on
        refuse_wrapped(parts)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Backward passes stay on their rank meanwhile: gradients are added up once, at the end."""
        before = [(m, m.require_backward_grad_sync, m.require_forward_param_sync) for m in self.wrapped]
        hidden = torch.nn.modules.module.register_module_forward_pre_hook(self._refuse_hidden) if _many() else None
        for module in self.wrapped:
            module.require_backward_grad_sync = module.require_forward_param_sync = False
        try:
            yield
        finally:
            if hidden is not None:
                hidden.remove()
            for module, backward, forward in before:
                module.require_backward_grad_sync, module.require_forward_param_sync = backward, forward

    def _refuse_hidden(self, module: torch.nn.Module, args: Any) -> None:
        if isinstance(module, DistributedDataParallel) and all(module is not known for known in self.wrapped):
            raise BatchproofError(
                "forward runs a DistributedDataParallel model that cannot be found from outside, and whose own "
                "averaging would come between: let forward be a function that names the model, or a method of what "
                "holds it"
            )

    def shards_behind(self, outputs: Sequence[Tensor]) -> dict[Tensor, Tensor]:
        """For each parameter that was put together for a pass, the part of this rank; none where ranks are alone."""
        self.pairs = shards_behind(leaves_of(outputs)) if self.together and managed() else {}
        return self.pairs

    @property
    def is_sharded(self) -> bool:
        """Whether every rank has to take part in each forward pass."""
        return self.together and any(map(is_sharded, self.parameters))

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Around a backward pass, of which the first shows what becomes of gradients of shards."""
        pairs = {} if self.measured else self.pairs
        with measuring(pairs, self.measured) if pairs else nullcontext():
            yield

    def every(self, here: bool) -> bool:
        """Whether something holds on every rank."""
        return all(self.gathered(here))

    def gathered(self, thing: Any) -> list[Any]:
        """What every rank has, in their order.

        Raises:
            Diverged, BatchproofError: a rank has given up instead of coming here.
        """
        return self._meet(None, thing) if self.together else [thing]

    def give_up(self, why: Exception) -> None:
        """Tell the ranks, which wait for this one where they meet next, that it cannot go on."""
        if self.together and not self.told:
            try:
                self._meet(why, None)
            except BatchproofError as other:
                if isinstance(why, Diverged) and not isinstance(other, Diverged):
                    raise

    def _meet(self, why: Exception | None, thing: Any) -> list[Any]:
        word = None if why is None else (isinstance(why, Diverged), f"{type(why).__name__}: {why}")
        everything: list[Any] = [None] * self.size
        dist.all_gather_object(everything, (word, thing), group=self.group)
        words = [(number, *word) for number, (word, _) in enumerate(everything) if word is not None]
        self.told = bool(words)
        for number, diverged, message in sorted(words, key=lambda word: word[1]):
            if diverged:
                raise Diverged("another rank could not fold its outputs")
            if number != self.number:
                raise BatchproofError(f"rank {number} gave up ({message})")
        return [thing for _, thing in everything]

    def calls(self, calls: Sequence[Batch]) -> list[list[Batch]]:
        """Every rank's outputs, on this rank's device."""
        if not self.together:
            return [list(calls)]
        ranks = self.gathered([on_cpu(call) for call in calls])
        return [[moved(call, self.device) for call in rank] for rank in ranks]

    def joined(self, calls: Sequence[Batch]) -> tuple[Batch, int]:
        """All outputs of all ranks as one batch, and how many samples come before this rank's."""
        ranks = self.calls(calls)
        before = sum(call.n for rank in ranks[: self.number] for call in rank)
        return join([call for rank in ranks for call in rank]), before

    def merged(self, state: GroupedState) -> GroupedState:
        """The state of all ranks together."""
        if not self.together:
            return state
        self.gathered(None)  # all could fold their outputs
        return reduce(state, self.group)

    def know(self, parameters: Iterable[Tensor]) -> None:
        """More parameters, in an order that is the same on every rank; shards for what is put together of them now."""
        parts = {whole: shard for whole, (shard, _) in every_shard().items()} if self.together and managed() else {}
        self.parameters = list(dict.fromkeys([*self.parameters, *(parts.get(p, p) for p in parameters)]))

    def starts(self, state: GroupedState) -> list[int]:
        """For each leaf of a state that keeps rows, how many of the ranks before come first."""
        lengths = [_rows(kept, leaf.dim) for leaf, kept in zip(state.plan.leaves, state.leaves, strict=True)]
        ranks = self.gathered(lengths)[: self.number]
        return [sum(rank[place] for rank in ranks) for place in range(len(lengths))]

    def add_up(self, ledger: Ledger, common: Sequence[Tensor], loss: Tensor) -> None:
        """The gradients of all ranks, summed on each.

        Args:
            ledger: what was reached here.
            common: parameters that every rank knows beside the model's, in one order: the loss's own.
            loss: on all samples.

        Raises:
            BatchproofError: a rank came to another loss, or reached a parameter that the others do not know.
        """
        if not self.together:
            return
        self.know(common)
        strange = [p for p in ledger.before if all(p is not known for known in self.parameters)]
        if strange:
            raise BatchproofError(
                f"a parameter of shape {tuple(strange[0].shape)} cannot be found from outside forward, so ranks "
                "cannot agree on an order: let forward be a function that names the model, or a method of what holds it"
            )
        ledger.hold(self.parameters)
        losses = self.gathered(float(loss.detach()))
        if any(abs(other - losses[0]) > SAME_LOSS * abs(losses[0]) for other in losses):
            raise BatchproofError(
                f"ranks come to different losses on all samples, {', '.join(map(str, losses))}: the loss takes "
                "something from outside that differs from rank to rank, or depends on how samples are padded"
            )
        reached = torch.tensor([p.grad is not None for p in self.parameters], dtype=torch.int32, device=self.device)
        dist.all_reduce(reached, dist.ReduceOp.MAX, group=self.group)
        sharded = [parameter for parameter in self.parameters if is_sharded(parameter)]
        factor = factor_of([self.measured.get(own) for own in sharded], self.device, self.group) if sharded else None
        for parameter, somewhere in zip(self.parameters, reached.tolist(), strict=True):
            if somewhere and factor is not None and is_sharded(parameter):
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
            elif somewhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                elif parameter.grad.is_sparse:
                    parameter.grad = parameter.grad.to_dense()
                own = here(parameter.grad)
                wire = own.contiguous()
                dist.all_reduce(wire, group=self.group)
                if wire is not own:
                    own.copy_(wire)


def _many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _rows(kept: Any, dim: int) -> int:
    return sum(chunk.shape[dim] for _, chunk in kept) if isinstance(kept, list) else 0
