"""Parameters of which each rank has a part (``fully_shard``, DTensor), and what becomes of their gradients.

``fully_shard`` puts a parameter together for a pass, and scatters its gradient again, reduced over the ranks. Reducing
commutes with a sum over micro-batches and with a factor, so one number is all that has to be known: by what factor the
result falls short of the sum over ranks. It is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from batchproof.errors import BatchproofError

#: By what share gradients may differ, where they are reduced in half precision.
ROUNDING = 2e-2
#: How near to a whole number a factor is that number.
NEAR = 5e-3

NOT_AVERAGED = (
    "what shards the model sends gradients between ranks in a way that is no multiple of their sum: keep "
    "set_requires_gradient_sync(True), and let every rank make as many backward passes"
)


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "to_local")


def here(tensor: Tensor) -> Tensor:
    """What of it is on this rank."""
    found: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return found


def every_shard() -> dict[Tensor, tuple[Tensor, int]]:
    """For each parameter that was put together for a pass, the part of this rank, and a number for its model."""
    found: dict[Tensor, tuple[Tensor, int]] = {}
    for module in managed():
        state: Any = getattr(module, "_get_fsdp_state", lambda: None)()
        model = id(getattr(state, "_state_ctx", state))
        groups = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
        for own in (one for group in groups for one in getattr(group, "fsdp_params", ())):
            if hasattr(own, "_unsharded_param") and own.sharded_param.requires_grad:
                found[own._unsharded_param] = own.sharded_param, model
    return found


def shards_behind(leaves: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """Of the models with these leaves: what was put together for a pass, and the part of this rank."""
    found = every_shard()
    models = {found[leaf][1] for leaf in leaves if leaf in found} if found else set()
    return {whole: shard for whole, (shard, model) in found.items() if model in models}


def managed() -> list[torch.nn.Module]:
    """The modules whose parameters are put together for a forward pass and taken apart after it."""
    if not (dist.is_available() and dist.is_initialized()):
        return []
    from torch.distributed._composable_state import _module_state_mapping

    return list(_module_state_mapping)


def group_of(modules: Iterable[torch.nn.Module]) -> Any:
    """The process group over which ``fully_shard`` has spread these modules' parameters; None where it has not.

    Raises:
        BatchproofError: It is a mesh of several dimensions, of which ranks may share samples along one.
    """
    for module in modules:
        if not hasattr(module, "_get_fsdp_state"):
            continue
        mesh: Any = next((p.device_mesh for p in module.parameters() if is_sharded(p)), None)  # type: ignore[attr-defined]
        if mesh is not None and mesh.ndim > 1:
            raise BatchproofError(
                f"the model is spread over a mesh of {mesh.ndim} dimensions: pass group=, the ranks that have samples "
                "of their own"
            )
        if mesh is not None:
            return mesh.get_group()
    return None


@contextmanager
def measuring(pairs: dict[Tensor, Tensor], found: dict[Tensor, tuple[float, float]]) -> Iterator[None]:
    """Around the first backward pass: for each shard the sum of what flowed there on this rank, and of its gradient."""
    flowed: dict[Tensor, float] = {}
    handles = [whole.register_hook(partial(_note, flowed, whole)) for whole in pairs]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for whole, shard in pairs.items():
        found[shard] = flowed.get(whole, 0.0), 0.0 if shard.grad is None else float(here(shard.grad).double().sum())


def _note(flowed: dict[Tensor, float], whole: Tensor, grad: Tensor) -> None:
    flowed[whole] = flowed.get(whole, 0.0) + float(grad.detach().double().sum())


def factor_of(measured: Sequence[tuple[float, float] | None], device: torch.device, group: Any) -> float | None:
    """By what factor gradients of shards fall short of the sum over ranks; None where no rank has seen them reduced.

    Every rank has to ask.

    Raises:
        BatchproofError: there is no such factor.
    """
    rows = [(0.0, 0.0, 0.0) if one is None else (*one, 1.0) for one in measured]
    sums = torch.tensor(rows, dtype=torch.float64, device=device)
    dist.all_reduce(sums, group=group)
    flowed, reduced, seen = sums.unbind(1)
    if not bool(seen.any()):
        return None
    world, size = dist.get_world_size(group), float(reduced @ reduced)
    factor = float(flowed @ reduced) / size if size else float(world)
    if not bool((flowed - factor * reduced).norm() <= ROUNDING * flowed.norm()):
        raise BatchproofError(NOT_AVERAGED)
    return next((float(n) for n in (world, 1) if abs(factor - n) <= NEAR * n), factor)


def own_code(graph: Sequence[str]) -> bool:
    """Whether a graph holds a backward that Python code defines, beside those of the wrapper."""
    ours = ("RegisterPostBackwardFunctionBackward",)
    return any(kind.endswith("FunctionBackward") and kind not in ours for kind in graph)
