"""A placement: what a value does when batches are joined, and along which dimension. And one use of an operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from batchproof.derive.kind import MERGEABLE, ROWLIKE, Kind
from batchproof.derive.program import ProgramValue
from batchproof.derive.recording import Op, Ref, Size


@dataclass(frozen=True)
class Placement:
    """A kind, and where samples lie.

    Attributes:
        kind: what the value does.
        dim: the dimension along which batches are joined; of merged values, 0.
        blocks: how many times the samples stand one after another: ``cat([x, y])`` is two blocks of rows.
    """

    kind: Kind
    dim: int = 0
    blocks: int = 1


OPAQUE = Placement(Kind.OPAQUE)


@dataclass
class ValueFacts:
    """What else is known of values by construction, not by their numbers.

    Attributes:
        zeros: values that are zero everywhere.
        order: for bags and sets, the value whose order they have; several of one order may meet elementwise.
        lengths: for the length of a selection, what decides it; selections by one mask are equally long.
        spans: for positions, the length of what they are positions in.
    """

    zeros: set[int] = field(default_factory=set)
    order: dict[int, int] = field(default_factory=dict)
    lengths: dict[tuple[int, int], Any] = field(default_factory=dict)
    spans: dict[int, Any] = field(default_factory=dict)

    def length(self, value: ProgramValue) -> Any:
        """What decides how long a value is along its samples' dimension; None where it is another shape's matter."""
        size = value.shape[value.dim]
        if not isinstance(size, Size):
            return None
        return (size.scale, None if size.of is None else self.lengths.get(size.of, size.of))


class Application:
    """One use of an operator: its arguments by name, and the values that go in and come out."""

    def __init__(self, op: Op, values: Sequence[ProgramValue], known: ValueFacts | None = None) -> None:
        self.op = op
        self.values = values
        self.known = known or ValueFacts()
        schema = op.func._schema.arguments
        self.arguments: dict[str, Any] = {argument.name: argument.default_value for argument in schema}
        self.arguments.update(zip((argument.name for argument in schema), op.args, strict=False))
        self.arguments.update(op.kwargs)
        self.tensors = [values[index] for index in op.inputs]
        self.outputs = [values[index] for index in op.outputs]

    @property
    def rowlike(self) -> list[ProgramValue]:
        """The inputs that samples lie along."""
        return [value for value in self.tensors if value.kind in ROWLIKE]

    @property
    def first(self) -> ProgramValue:
        """The first tensor among the arguments."""
        return self.tensors[0]

    def value(self, *names: str) -> ProgramValue | None:
        """The tensor passed as one of these arguments, or None."""
        for name in names:
            given = self.arguments.get(name)
            if isinstance(given, Ref):
                return self.values[given.index]
        return None

    @property
    def named(self) -> list[tuple[str, ProgramValue]]:
        """The tensors among the arguments, by the arguments' names."""
        return [(name, self.values[leaf.index]) for name, leaf in self.arguments.items() if isinstance(leaf, Ref)]

    def listed(self, name: str) -> list[ProgramValue | None]:
        """The tensors of a list argument; None where an entry is left open."""
        return [self.values[leaf.index] if isinstance(leaf, Ref) else None for leaf in self.arguments[name]]

    def dims(self, rank: int) -> list[int]:
        """The dimensions that the operator works along: those named, or all of them."""
        given = next((self.arguments[name] for name in ("dim", "dims") if name in self.arguments), None)
        if given is None or given == []:
            return list(range(rank))
        listed = given if isinstance(given, (list, tuple)) else [given]
        return [d % rank for d in listed] if rank else []

    def all(self, placement: Placement) -> list[Placement]:
        """One placement for every output."""
        return [placement] * len(self.outputs)


def sound(placement: Placement, value: ProgramValue, values: Sequence[ProgramValue]) -> Placement:
    """A placement, or opaque where the shape contradicts it.

    Args:
        placement: that a rule gives.
        value: what is placed.
        values: all of the Program, for the selections whose lengths a shape follows.
    """
    if placement.kind in ROWLIKE:
        return placement if _joins(placement, value, values) else OPAQUE
    if placement.kind in MERGEABLE:
        if value.varying:
            return OPAQUE
        if value.dtype is torch.bool:
            kind = {Kind.MAX: Kind.ANY, Kind.MIN: Kind.ALL, Kind.ANY: Kind.ANY, Kind.ALL: Kind.ALL}.get(placement.kind)
            return OPAQUE if kind is None else Placement(kind)
        return OPAQUE if placement.kind in (Kind.ANY, Kind.ALL) else placement
    return placement


def _joins(placement: Placement, value: ProgramValue, values: Sequence[ProgramValue]) -> bool:
    """Whether the lengths along the samples' dimension, and no others, add over batches."""
    if value.varying != (placement.dim,):
        return False
    size = value.shape[placement.dim]
    if not isinstance(size, Size) or size.offset or size.scale % placement.blocks:
        return False
    if size.of is None or placement.kind is Kind.SET or size.of[0] == value.index:
        return True
    return values[size.of[0]].kind in (Kind.ROWS, Kind.INDEX, Kind.BAG, Kind.BLOCKS)
