"""The part of a program between rows and a sum around a batch statistic, and the points that it is worked out at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from batchproof.derive.kind import MERGEABLE, ROWLIKE, Kind
from batchproof.derive.powers import NoPolynomial, NoRule, Polynomial, Powers, apply, moved
from batchproof.derive.program import Program
from batchproof.derive.recording import Free, Op, Ref, Size, call, leaves, outputs_of, replace, widen_constant


@dataclass(frozen=True)
class Summand:
    """The operations between unconditional rows and a conditional sum."""

    leaf: int
    ops: tuple[Op, ...]
    rows: tuple[int, ...]
    stats: tuple[int, ...]
    free: tuple[int, ...]
    lengths: tuple[tuple[int, int], ...]

    def run(self, at: Centre, rows: SummandRows, shared: dict[int, torch.Tensor]) -> torch.Tensor:
        env: dict[int, torch.Tensor] = {**shared, **rows.values, **at.stats}

        def look(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                return env[leaf.index]
            if isinstance(leaf, Free):
                return at.free[leaf.position]
            return leaf.at(rows.n, rows.lengths)

        for op in self.ops:
            func = op.func.overloadpacket if any(isinstance(x, Free) for x in leaves((op.args, op.kwargs))) else op.func
            result = call(func, op.args, op.kwargs, look)
            env.update(outputs_of(op, result))
        return env[self.leaf]

    def expand(self, at: Centre, rows: SummandRows, shared: dict[int, torch.Tensor]) -> Polynomial:
        """The sum as a polynomial in the moves of the statistics from a centre.

        Raises:
            NoPolynomial: a statistic that moves enters by an operation without a rule.
        """
        count = len(at.directions)
        moving: dict[tuple[bool, int], Any] = {}
        for number, direction in enumerate(at.directions):
            moving.setdefault((direction.free, direction.index), {})[number] = direction.step
        env: dict[int, Any] = {**shared, **rows.values, **at.stats}
        env |= {i: moved(env[i], moves, count) for (free, i), moves in moving.items() if not free}
        device = next(iter(env.values())).device if env else None
        numbers = dict(at.free)
        for (free, position), moves in moving.items():
            if free:
                value = torch.as_tensor(at.free[position], dtype=torch.float64, device=device)
                numbers[position] = moved(value, moves, count)
        products: dict[tuple[int, int], torch.Tensor] = {}

        def look(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                return env[leaf.index]
            return numbers[leaf.position] if isinstance(leaf, Free) else leaf.at(rows.n, rows.lengths)

        for op in self.ops:
            given: Any = replace(replace((op.args, op.kwargs), (Ref, Size, Free), look), torch.dtype, widen_constant)
            if any(isinstance(leaf, Polynomial) for leaf in leaves(given)):
                env[op.outputs[0]] = apply(op, given[0], given[1], products)
                continue
            func = op.func.overloadpacket if any(isinstance(x, Free) for x in leaves((op.args, op.kwargs))) else op.func
            env.update(outputs_of(op, call(func, given[0], given[1], look)))
        found = env[self.leaf]
        if not isinstance(found, Polynomial):
            raise NoPolynomial(frozenset(range(count)))
        try:
            units = {powers: (factor, found.unit(powers)) for powers, (factor, _) in found.terms.items()}
        except NoRule:
            raise NoPolynomial(frozenset()) from None
        return Polynomial(found.shape, {**units})

    def sums(self, centres: Sequence[Centre], rows: SummandRows, shared: dict[int, torch.Tensor]) -> torch.Tensor:
        """What is kept of some rows at each centre, (elements, centres)."""
        if not centres[0].powers:
            return torch.stack([self.run(at, rows, shared).reshape(-1) for at in centres], 1)
        found = self.expand(centres[0], rows, shared)
        return torch.stack([found.unit(at.powers).reshape(-1) for at in centres], 1)


@dataclass(frozen=True)
class Direction:
    """How a statistic moves from a centre: by a step, or by one everywhere (None)."""

    index: int  # of the value; of a Free number, its position
    free: bool
    step: torch.Tensor | None


@dataclass
class Centre:
    """A point s: a value for every statistic that a conditional sum depends on.

    With ``powers`` it stands for a coefficient, up to a number, of the sum as a polynomial in its moves from there.
    """

    stats: dict[int, torch.Tensor]
    free: dict[int, Any]
    powers: Powers = ()
    directions: tuple[Direction, ...] = ()
    factor: float = 1.0  # of the coefficient: it is kept without

    @property
    def form(self) -> Any:
        """What fold code is written for: all of it but the tensors."""
        moving = tuple((direction.index, direction.free) for direction in self.directions)
        return self.powers, moving, tuple(sorted(self.free.items())) if self.powers else ()


@dataclass
class SummandRows:
    """A few rows, as a summand takes them."""

    values: dict[int, torch.Tensor]
    n: int
    lengths: dict[tuple[int, int], int]


def conditional_slice(program: Program, leaf: int) -> Summand:
    """The operations from unconditional rows to a conditional sum."""
    values = program.values
    ops: set[int] = set()
    rows: set[int] = set()
    stats: set[int] = set()
    free: set[int] = set()
    lengths: set[tuple[int, int]] = set()
    todo = [leaf]
    while todo:
        number = values[todo.pop()].op
        if number is None or number in ops:
            continue
        ops.add(number)
        op = program.ops[number]
        for part in leaves((op.args, op.kwargs)):
            if isinstance(part, Free):
                free.add(part.position)
            elif isinstance(part, Size) and part.of is not None:
                lengths.add(part.of)
            elif isinstance(part, Ref):
                value = values[part.index]
                if value.kind in ROWLIKE and value.given:
                    todo.append(part.index)
                elif value.kind in ROWLIKE:
                    rows.add(part.index)
                elif value.kind in (Kind.STAT, *MERGEABLE):
                    stats.add(part.index)
    ordered = tuple(program.ops[number] for number in sorted(ops))
    return Summand(
        leaf, ordered, tuple(sorted(rows)), tuple(sorted(stats)), tuple(sorted(free)), tuple(sorted(lengths))
    )
