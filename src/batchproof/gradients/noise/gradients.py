"""Gradients of a batch's loss, by autograd, and of each sample's loss, by ``vmap(grad)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.gradients.noise.samples import NumberedSamples, on_device
from batchproof.gradients.noise.sharded import gradient_of, is_sharded

#: One tensor for each trainable parameter.
Gradient = list[Tensor]
#: At most this many bytes, and samples, of single samples' gradients are there at a time.
CHUNK_BYTES, MOST_AT_ONCE = 128 << 20, 256


class _Holder(torch.nn.Module):
    """The model with what calls it: while `functional_call` runs, a closure over the model sees other parameters."""

    def __init__(self, model: torch.nn.Module, loss: Callable[[Any], Any]) -> None:
        super().__init__()
        # not by eval() or train(): the model's modes are the user's
        self._modules["model"] = model
        self.loss = loss

    def forward(self, batch: Any) -> Any:
        return self.loss(batch)


@dataclass(frozen=True)
class TrainingProblem:
    """A model, its loss on a batch, and the samples.

    Attributes:
        model: whose parameters the gradient is taken by.
        loss: of a batch, as a scalar with its graph.
        samples: that batches are made of.
    """

    model: torch.nn.Module
    loss: Callable[[Any], Any]
    samples: NumberedSamples

    @cached_property
    def trained(self) -> dict[str, Tensor]:
        """The trainable parameters by name, each one once; of a sharded model the parts, which it swaps for others."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    @cached_property
    def is_sharded(self) -> bool:
        """Whether each rank holds a part of the model."""
        return is_sharded(list(self.trained.values()))

    @property
    def at_once(self) -> int:
        """Of how many samples the gradients are held at a time."""
        weight = sum(value.nbytes for value in self.trained.values())
        return max(1, min(MOST_AT_ONCE, CHUNK_BYTES // weight))

    def batch(self, numbers: Sequence[int]) -> Any:
        """A batch of these samples, where the model is."""
        return on_device(self.samples.pick(numbers), next(iter(self.trained.values())).device)

    def gradient(self, batch: Any) -> Gradient:
        """The gradient of a batch's loss; nothing is added to ``.grad``.

        Raises:
            BatchproofError: the loss is no scalar, or no trainable parameter is in it.
        """
        parameters = list(self.trained.values())
        with torch.enable_grad():
            loss = self.loss(batch)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                raise BatchproofError(f"loss_fn must return one number, the mean over the batch, and returned {what}")
            if not loss.requires_grad:
                raise BatchproofError("the loss has no gradient: no trainable parameter of the model is in it")
            if self.is_sharded:
                return gradient_of(loss.reshape(()), parameters)
            found: Sequence[Tensor | None] = torch.autograd.grad(loss.reshape(()), parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    def per_sample(self, batch: Any) -> Gradient:
        """The gradient of each sample's loss, alone in its batch: the samples along the first dimension."""
        holder = _Holder(self.model, self.loss)

        def loss_of_one(parameters: dict[str, Tensor], sample: Any) -> Tensor:
            alone = pytree.tree_map(lambda leaf: leaf.unsqueeze(0), sample)
            loss: Tensor = functional_call(holder, parameters, (alone,))
            return loss.reshape(())

        parameters = {f"model.{name}": value.detach() for name, value in self.trained.items()}
        found = vmap(grad(loss_of_one), in_dims=(None, 0), randomness="different")(parameters, batch)
        return list(found.values())


def dot(a: Gradient, b: Gradient) -> float:
    """The inner product over all parameters, added up in double precision."""
    return float(sum((x.double() * y.double()).sum() for x, y in zip(a, b, strict=True)))


def distance(a: Gradient, b: Gradient) -> float:
    """The squared distance of two gradients."""
    return float(sum((x.double() - y.double()).square().sum() for x, y in zip(a, b, strict=True)))


def weighted_sum(gradients: Sequence[Gradient], weights: Sequence[float]) -> Gradient:
    """The sum of gradients, each times its weight, in double precision."""
    return [
        torch.stack([weight * part.double() for weight, part in zip(weights, parts, strict=True)]).sum(0)
        for parts in zip(*gradients, strict=True)
    ]
