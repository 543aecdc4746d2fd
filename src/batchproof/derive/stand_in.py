"""Stand-ins for values that were not kept: a shape, strides and a device, and no memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from batchproof.derive.diverged import Diverged
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.recording import Op, Ref, Size, replace
from batchproof.derive.site import call_site
from batchproof.ground.place import Statement


class Shapes:
    """The shapes that a program's values have at one number of samples.

    Args:
        program: recorded.
        n: the number of samples.
        lengths: of the selections whose length is known.
    """

    def __init__(self, program: Program, n: int, lengths: dict[tuple[int, int], int]) -> None:
        self.values = program.values
        self.n = n
        self.lengths = lengths

    def known(self, op: Op) -> Any:
        """What an operation gives, by shape, where no kernel need be asked for it; else None."""
        selects = any((output, 0) in self.lengths or self._selected(output) for output in op.outputs)
        return self.outputs(op) if selects or self._follows(op) else None

    def outputs(self, op: Op) -> Any:
        """What an operation gives, as tensors without memory, of the shapes that were recorded."""
        return replace(op.result, Ref, lambda leaf: self._meta_of(leaf.index))

    def _follows(self, op: Op) -> bool:
        """Whether all sizes follow the number of samples, densely laid out: then no kernel need be asked for them."""
        values = [self.values[index] for index in (*op.inputs, *op.outputs)]
        sizes = [size for value in values for size in value.shape if isinstance(size, Size)]
        return all(size.of is None for size in sizes) and all(
            not value.dtype.is_complex and dense(value) for value in values if value.index in op.outputs
        )

    def _selected(self, output: int) -> bool:
        shape = self.values[output].shape
        return any(isinstance(s, Size) and s.of is not None and s.of[0] == output for s in shape)

    def _meta_of(self, output: int) -> torch.Tensor:
        value = self.values[output]
        sizes = [
            (s.at(self.n, {s.of: 0, **self.lengths} if s.of else self.lengths) if isinstance(s, Size) else s)
            for s in value.shape
        ]
        if not dense(value):
            return torch.empty(sizes, dtype=value.dtype, device="meta")
        return torch.empty_strided(sizes, dense_strides(sizes, value.strides), dtype=value.dtype, device="meta")


def dense_strides(sizes: Sequence[int], like: Sequence[int]) -> list[int]:
    """Strides without gaps, the dimensions in the order of other strides; a repeated dimension stays repeated."""
    strides = [0] * len(sizes)
    step = 1
    for d in sorted(range(len(sizes)), key=lambda d: (like[d], -d)):
        if like[d]:
            strides[d] = step
            step *= max(sizes[d], 1)
    return strides


def dense(value: ProgramValue) -> bool:
    """Whether a value was laid out without gaps, in some order of its dimensions."""
    sizes = value.sizes
    moving = [d for d in range(len(sizes)) if sizes[d] != 1]
    expected = dense_strides(sizes, value.strides)
    return all(value.strides[d] == expected[d] for d in moving)


class StandIn(torch.Tensor):
    """A tensor with a shape, strides and a device, and no memory."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise Diverged(Statement(f"a value that was not kept is needed ({func})", f" at {call_site()}"))


def stand_in(like: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A stand-in of a tensor's shape."""
    made: torch.Tensor = torch.Tensor._make_wrapper_subclass(
        StandIn, like.shape, like.stride(), dtype=like.dtype, device=device
    )
    if like.is_conj():
        torch._C._set_conj(made, True)
    if like.is_neg():
        torch._C._set_neg(made, True)
    return made
