"""The function of a simulation: its plan, and its values on batches and on states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from batchproof.derive import FoldMany, OwnError, Plan, State, StatePlan, as_kept, derive, finish_many, fold_many
from batchproof.errors import BatchproofError
from batchproof.explanation import Samples
from batchproof.ground import components
from batchproof.ground.batch import bound
from batchproof.simulation.population import Population

States = list[Tensor]  # for each leaf of a plan, the states of several batches along the first dimension


@dataclass(frozen=True)
class Trial:
    """A function and what its batches are drawn from.

    Attributes:
        fn: of the arguments; returns numbers in any structure.
        title: how it is called: "rmse(pred, real)".
        plan: how batches are folded; None where samples would be kept, and the function is called instead.
        reason: why it keeps samples.
        names: of the numbers that it returns.
        is_pairwise: whether its memory may grow with the square of the number of samples.
    """

    fn: Callable[..., Any]
    title: str
    population: Population
    plan: StatePlan | None
    reason: str
    names: list[str]
    is_pairwise: bool = True

    def value(self, samples: Samples) -> Tensor:
        """(components,): the function's own value on a batch; NaN where it raises."""
        args, kwargs = samples.all()
        try:
            found = components.values(self.fn(*args, **kwargs))
        except Exception:  # noqa: BLE001 - a function that fails on some batches is part of what is shown
            return self._no_values(1)[0]
        return found if len(found) == len(self.names) else self._no_values(1)[0]

    def _no_values(self, count: int) -> Tensor:
        return torch.full((count, len(self.names)), torch.nan, dtype=torch.float64)

    @property
    def arguments(self) -> tuple[list[Tensor], tuple[int | None, ...]]:
        """The tensors that the plan works on, of a few samples, and their batch dimensions."""
        return list(self.population.some.leaves), self.population.some.dims

    def fold(self, leaves: Sequence[Any], batches: int, size: int) -> States:
        """The states of batches of one size that lie one after another in the leaves."""
        folds, shape = self._folds, (batches, size)
        if shape not in folds:
            assert self.plan is not None
            folds[shape] = fold_many(self.plan, leaves, self.population.some.dims, batches, size)
        return folds[shape](leaves)

    @cached_property
    def _folds(self) -> dict[tuple[int, int], FoldMany]:
        return {}

    def whole(self, leaves: Sequence[Any], n: int) -> State:
        """The state of all n samples in the leaves."""
        folded, lengths = self._fold(leaves)
        assert self.plan is not None
        return State(as_kept(self.plan, folded), lengths, n)

    @cached_property
    def _fold(self) -> Callable[[Sequence[Any]], Any]:
        """(leaves, lengths of selections) of a batch."""
        assert self.plan is not None
        compiled, captured = self.plan.fold.compile(), self.plan.captured
        return lambda leaves: compiled(leaves, captured)

    def finish(self, state: State) -> Tensor:
        """(components,): the function's value on all samples of a state."""
        assert self.plan is not None
        return components.values(self.plan.finish(state, *self.arguments, state.n))

    def pooled(self, state: State) -> Tensor:
        """The value on all samples together; NaN where the function itself raises."""
        try:
            return self.finish(state)
        except BatchproofError:
            raise
        except Exception:  # noqa: BLE001 - as in `value`
            return self._no_values(1)[0]

    def finish_many(self, states: States, n: int) -> tuple[Tensor, Tensor]:
        """(batches, components) values of states of n samples each, and for each whether its digits suffice."""
        assert self.plan is not None
        found = finish_many(self.plan, states, *self.arguments, n)
        return torch.cat([_numbers(leaf) for leaf in found.leaves], 1)[:, : components.MOST], found.sound

    def finish_each(self, states: States, n: int, lengths: Sequence[list[int]] = ()) -> tuple[Tensor, Tensor]:
        """(batches, components) values, one by one: a branch may depend on a state, or lengths of selections differ."""
        values = self._no_values(len(states[0]))
        sound = torch.zeros(len(values), dtype=torch.bool)
        for number in range(len(values)):
            with suppress(Exception):
                state = State([leaf[number] for leaf in states], lengths[number] if lengths else [], n)
                values[number], sound[number] = self.finish(state), True
        return values, sound

    def finish_states(self, states: Sequence[State]) -> Tensor:
        """(states, components): the values of states of any sizes; NaN where one cannot be had."""
        found = self._no_values(len(states))
        for n in {state.n for state in states}:
            places = [place for place, state in enumerate(states) if state.n == n]
            alike = [states[place] for place in places]
            leaves = [torch.stack(leaf) for leaf in zip(*(state.leaves for state in alike), strict=True)]
            try:
                values, sound = self.finish_many(leaves, n)
            except Exception:  # noqa: BLE001 - the function may raise at this size
                values, sound = self.finish_each(leaves, n, [state.lengths for state in alike])
            found[places] = torch.where(sound.unsqueeze(1), values, torch.nan)
        return found

    def merged(self, states: States, size: int) -> State:
        """The states of several batches, merged into one."""
        assert self.plan is not None
        leaves = [leaf.merge.reduce(state) for leaf, state in zip(self.plan.leaves, states, strict=True)]
        return State(leaves, [], size * len(states[0]))

    def join(self, states: Sequence[State]) -> State:
        """Several merged states as one."""
        assert self.plan is not None
        leaves = [
            leaf.merge.join(parts) for leaf, *parts in zip(self.plan.leaves, *(s.leaves for s in states), strict=True)
        ]
        lengths = [sum(parts) for parts in zip(*(s.lengths for s in states), strict=True)]
        return State(leaves, lengths, sum(s.n for s in states))


def trial_of(fn: Callable[..., Any], title: str, population: Population) -> Trial:
    """Derive the function's plan from a few samples.

    Raises:
        BatchproofError: it is random, or returns a number for every sample.
    """
    some = population.some
    result = _result(fn, title, some)
    names = components.names(result)
    if len(names) != len(components.names(_result(fn, title, some.first(some.n // 2)))):
        raise BatchproofError(f"{title} returns a number for every sample: there is nothing to average; reduce it")
    if not all(isinstance(leaf, Tensor) for leaf in some.leaves):
        return Trial(fn, title, population, None, "its arguments are not tensors", names)
    try:
        plan = _derived(fn, some)
    except OwnError:
        return Trial(fn, title, population, None, "it raises on some batches", names)
    reason = plan.reason or ("" if plan.leaves else "it looks at no sample")
    folding = plan if isinstance(plan, StatePlan) and not reason else None
    return Trial(fn, title, population, folding, reason, names, _is_pairwise(plan))


def _result(fn: Callable[..., Any], title: str, some: Samples) -> Any:
    args, kwargs = some.all()
    try:
        bound(fn, args, kwargs)
    except TypeError as error:
        raise BatchproofError(f"{title} was given {len(args)} arguments: {error}") from None
    result = fn(*args, **kwargs)
    if not components.names(result):
        raise BatchproofError(f"{title} returned {type(result).__name__}: there is no number in it to average")
    return result


def _derived(fn: Callable[..., Any], some: Samples) -> Plan:
    def flat(*tensors: Tensor) -> Any:
        args, kwargs = some.arrange(tensors)
        return fn(*args, **kwargs)

    return derive(flat, list(some.leaves), some.dims)


def _is_pairwise(plan: Plan) -> bool:
    return plan.program is None or any(len(value.varying) > 1 for value in plan.program.values)


def _numbers(leaf: Tensor) -> Tensor:
    if leaf.is_complex():
        leaf = torch.view_as_real(leaf)
    return leaf.reshape(leaf.shape[0], -1).double()
