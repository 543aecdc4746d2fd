"""States of many sizes, finished at once: for groups of samples, of which hardly two have as many.

The function runs by itself for the smallest, a middling and the largest number of samples. Where it never asks how many
there are, Python goes one way for all of them, and the numbers in its operations that differ are those that torch's own
means and variances divide by: they follow the number of samples. For any other state the operations are done again with
its own number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace as replaced
from typing import Any

import torch
from torch import Tensor

from batchproof.derive.finish import Finisher, FinishStep, State
from batchproof.derive.finish_many import (
    FinishedValues,
    OneByOne,
    check_extremes,
    computed_with,
    mapped,
    targets_of,
)
from batchproof.derive.plan import StatePlan
from batchproof.derive.recording import Size, equal, leaves
from batchproof.derive.rerun import Rerun


def finish_sizes(
    plan: StatePlan, kept: Sequence[Tensor], shared: Sequence[Tensor], dims: Sequence[int | None], sizes: Tensor
) -> FinishedValues:
    """The function's value for each of many states.

    Args:
        plan: of a state without kept rows.
        kept: for each leaf of the plan its merged values, the states along the first dimension.
        shared: as `Plan.finish` takes them.
        dims: the inputs' batch dimensions.
        sizes: the number of samples in each state, int64, none of them 0.

    Raises:
        OneByOne: the function asks how many samples there are, reads numbers that come from samples, or has an
            operation that cannot be done to many states at once.
    """
    if plan.lengths:
        raise OneByOne("how many samples it selects differs from state to state")
    runs, results, ends = [], [], _ends(sizes)

    def alone(number: int) -> tuple[Any, Finisher]:
        state = State([leaf[number] for leaf in kept], [], int(sizes[number]))
        return plan.run(state, shared, dims, state.n)

    for number in ends:
        try:
            result, run = alone(number)
        except Exception as error:  # that state says itself why it has no value
            raise OneByOne("it has no value at some number of samples") from error
        if run.reads_data or run.asks_size:
            raise OneByOne("it reads a number, or a size, in Python")
        results.append(result)
        runs.append(run)
    at = [int(sizes[number]) for number in ends]
    steps = _steps(runs, at)
    targets = [targets_of(run, result) for run, result in zip(runs, results, strict=True)]
    if any(not _same(one, targets[0]) for one in targets[1:]):
        raise OneByOne("its result follows the number of samples by another way")
    fixed = _fixed(runs)

    def finisher(nudge: float) -> Callable[..., Any]:
        def one(n: Tensor, *state: Tensor) -> Any:
            again = Rerun(plan, runs[0], dict(zip(plan.kept, state, strict=True)), fixed, nudge, n)
            found = again.run(steps, targets[0])
            return found, torch.stack(again.unsound).any(), torch.stack(again.lost).amax()

        return one

    values, sound = mapped(finisher, [sizes.double(), *computed_with(plan, kept)], len(sizes))
    check_extremes(values, sound, alone)
    return FinishedValues(values, sound)


def _ends(sizes: Tensor) -> list[int]:
    """A state of the smallest, a middling and the largest number of samples."""
    order = sizes.argsort()
    return [int(order[place]) for place in (0, len(order) // 2, -1)]


def _steps(runs: Sequence[Finisher], at: Sequence[int]) -> list[FinishStep]:
    """The operations of all runs, in which numbers that differ are said by the number of samples.

    Raises:
        OneByOne: other operations are done, or a number follows the number of samples in no straight line.
    """
    scripts = [[step for step in run.script if not step.shared] for run in runs]
    if len({len(script) for script in scripts}) > 1:
        raise OneByOne("it does something else at another number of samples")
    taken = {at for parts in runs[0].centred.values() for at in parts.summand.free}
    if any(run.free.get(at) != runs[0].free.get(at) for run in runs for at in taken):
        raise OneByOne("a number around which a sum is taken follows the number of samples")
    return [_step(same, at) for same in zip(*scripts, strict=True)]


def _step(same: Sequence[FinishStep], at: Sequence[int]) -> FinishStep:
    first = same[0]
    if any(step.op.func is not first.op.func or step.op.outputs != first.op.outputs for step in same):
        raise OneByOne("it does something else at another number of samples")
    each = [list(leaves((step.args, step.kwargs))) for step in same]
    if len({len(own) for own in each}) > 1:
        raise OneByOne("it does something else at another number of samples")
    said = iter([_leaf(own, at) for own in zip(*each, strict=True)])
    args, kwargs = _filled((first.args, first.kwargs), said)
    if not any(isinstance(leaf, Size) for leaf in leaves((args, kwargs))):
        return replaced(first, args=args, kwargs=kwargs)
    # a number that differs is a tensor now: another overload of the same operation takes it
    return replaced(first, op=replaced(first.op, func=first.op.func.overloadpacket), args=args, kwargs=kwargs)


def _leaf(own: Sequence[Any], at: Sequence[int]) -> Any:
    """An argument that all runs have, or the straight line in the number of samples that gives each run's."""
    if all(_same(leaf, own[0]) for leaf in own):
        return own[0]
    if not all(type(leaf) in (int, float) for leaf in own):
        raise OneByOne("it does something else at another number of samples")
    slope = (own[-1] - own[0]) / (at[-1] - at[0]) if at[-1] > at[0] else 0
    scale = round(slope)
    offset = own[0] - scale * at[0]
    if scale != slope or any(scale * size + offset != leaf for size, leaf in zip(at, own, strict=True)):
        raise OneByOne("a number in it follows the number of samples in no straight line")
    return Size(scale, offset)


def _filled(tree: Any, values: Iterator[Any]) -> Any:
    """An operation's arguments with other leaves, in order."""
    if type(tree) in (tuple, list):
        return type(tree)([_filled(part, values) for part in tree])
    if type(tree) is dict:
        return {key: _filled(part, values) for key, part in tree.items()}
    return next(values)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and equal(a, b)
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


def _fixed(runs: Sequence[Finisher]) -> dict[int, Tensor]:
    """The values that are the same for all states.

    Raises:
        OneByOne: one of them is another at another number of samples.
    """
    found = [{index: run.values[index] for index in run.real if run.unreached(index)} for run in runs]
    for other in found[1:]:
        if other.keys() != found[0].keys() or not all(equal(value, found[0][index]) for index, value in other.items()):
            raise OneByOne("a constant in it follows the number of samples")
    return found[0]
