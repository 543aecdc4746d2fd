"""The gradient of one large batch, and the same from micro-batches: what accumulate is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import batchproof as bp

Data = dict[str, Tensor]
Parts = Sequence[Any]
Made = tuple[Tensor, list[Tensor]]  # the loss, and each parameter's gradient

#: Relative to the gradient's own norm.
ROUNDING = 1e-10
#: A parameter whose gradient is small beside the others is a sum that cancels: held against this share of the whole.
#: A bias that a normalisation takes out again has none but rounding, which differs from one processor to the next.
SHARE_OF_WHOLE = 0.1
SEED = 77


@dataclass
class Task:
    """A loss, what feeds it, and the parameters that its gradient is taken of."""

    loss_fn: Callable[..., Any]
    forward: Callable[[Any], Any]
    parameters: Sequence[Tensor]
    dims: int | tuple[int | None, ...] = 0
    together: Callable[[list[Any]], Any] | None = None  # makes one batch of many outputs, where they are ragged

    def one_batch(self, parts: Parts) -> Made:
        """The loss on all outputs together, and one backward pass; random numbers are drawn as the loop draws them."""
        clear(self.parameters)
        torch.manual_seed(SEED)
        outputs = [self.forward(part) for part in parts]
        args = self.together(outputs) if self.together is not None else joined(outputs, self.dims)
        loss = self.loss_fn(*args)
        loss.backward()
        return loss.detach(), gradients(self.parameters)


def joined(outputs: list[Any], dims: int | tuple[int | None, ...]) -> list[Any]:
    """The arguments for one batch, with their graph."""
    rows = [output if isinstance(output, tuple) else (output,) for output in outputs]
    each = dims if isinstance(dims, tuple) else (dims,) * len(rows[0])
    return [row[0] if dim is None else torch.cat(row, dim) for row, dim in zip(zip(*rows), each, strict=True)]


def clear(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


def cut(data: Data, sizes: Sequence[int]) -> list[Data]:
    """Micro-batches of these sizes."""
    columns = {name: values.split(list(sizes)) for name, values in data.items()}
    return [{name: column[place] for name, column in columns.items()} for place in range(len(sizes))]


# ------------------------------------------------------------------ the ways to the same gradient


def by_list(task: Task, parts: Parts) -> tuple[Tensor, Any]:
    loss = bp.accumulate(task.loss_fn, task.forward, list(parts), batch_dim=task.dims)
    return loss, loss.scheme  # type: ignore[attr-defined]


def by_iterator(task: Task, parts: Parts) -> tuple[Tensor, Any]:
    loss = bp.accumulate(task.loss_fn, task.forward, iter(parts), batch_dim=task.dims)
    return loss, loss.scheme  # type: ignore[attr-defined]


def by_steps(task: Task, parts: Parts) -> tuple[Tensor, Any]:
    acc = bp.Accumulator(task.loss_fn, batch_dim=task.dims)
    for part in parts:
        outputs = task.forward(part)
        acc.backward(*(outputs if isinstance(outputs, tuple) else (outputs,)))
    return acc.finish(task.parameters), acc.scheme


WAYS = (by_iterator, by_list, by_steps)
Way = Callable[[Task, Parts], tuple[Tensor, Any]]


def same_gradient(
    task: Task, parts: Parts, ways: Sequence[Way] = WAYS, before: Sequence[Tensor | None] = ()
) -> set[int]:
    """Every way gives the gradient of one batch, added to the one before; only what takes a single pass may refuse.

    Returns:
        The numbers of the schemes that were used.
    """
    loss, expected = task.one_batch(parts)
    schemes = set()
    for way in ways:
        start = list(before) or [None] * len(expected)
        for parameter, grad in zip(task.parameters, start, strict=True):
            parameter.grad = None if grad is None else grad.clone()
        torch.manual_seed(SEED)
        try:
            found, scheme = way(task, parts)
        except bp.BatchproofError:
            assert way is not by_list
            for parameter, grad in zip(task.parameters, start, strict=True):
                assert parameter.grad is None if grad is None else torch.equal(parameter.grad, grad)
            continue
        wanted = [grad if old is None else old + grad for grad, old in zip(expected, start, strict=True)]
        same((found, gradients(task.parameters)), (loss, wanted), f"{way.__name__}, {scheme}")
        schemes.add(scheme.number)
    clear(task.parameters)
    return schemes


def same(found: Made, expected: Made, where: str) -> None:
    """The same loss and gradient, but for the rounding of float64."""
    torch.testing.assert_close(found[0], expected[0], rtol=ROUNDING, atol=1e-14, msg=lambda text: f"{text}\n{where}")
    same_gradients(found[1], expected[1], where)


def same_gradients(found: Sequence[Tensor | None], expected: Sequence[Tensor], where: str) -> None:
    """Each parameter's gradient is the same, but for the rounding of float64."""
    floor = SHARE_OF_WHOLE * float(torch.stack([grad.norm() for grad in expected]).norm())
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert mine is not None, f"parameter {number} has no gradient: {where}"
        off, size = float((mine - theirs).norm()), float(theirs.norm())
        assert off <= ROUNDING * max(size, floor), f"parameter {number} is off by {off:.1e} of {size:.1e}: {where}"
