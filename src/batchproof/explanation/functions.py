"""Measure a function of a batch on the user's samples: how its value behaves when batches are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.explanation.groups import find_groups
from batchproof.explanation.measure import Progress, Score, Sizes, SizeValues, curve, default_sizes, measure, workable
from batchproof.explanation.result import Curve, Direction, Reading
from batchproof.explanation.samples import Grouping, Samples
from batchproof.explanation.trace import find_draws
from batchproof.ground import components
from batchproof.ground.isolation import seed_all
from batchproof.ground.place import Place
from batchproof.ground.tensors import NEXT_TO_NOTHING, close

Behaviour = Literal["mean", "sum", "other"]
_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
COARSE = 1e-2
#: An error on one side that is smaller than this share of the largest on the other says nothing of the direction.
SLIGHT = 0.1
_HARM = {"mean": 0, "undefined": 1, "sum": 2, "other": 3}
#: More than this is left in the user's precision: twice the bytes might not fit.
MOST_BYTES = 1 << 29


@dataclass(frozen=True)
class Unsteady:
    """Why two calls on the same samples differ, and the line that draws the first random number."""

    code: Literal["random", "state"]
    place: Place | None = None


@dataclass(frozen=True)
class ResultLeaf:
    """One of the values that a function returned.

    Attributes:
        path: How to get there from what was returned: ``['loss']``.
        position: Where it stands among all leaves.
        is_single: Whether it is one number.
        has_item: Whether it is one number in a tensor or array.
    """

    path: str
    position: int
    is_single: bool
    has_item: bool


@dataclass(frozen=True)
class FunctionMeasurement:
    """The numbers, and what they say: one column for each number of the result, of which one is the worst."""

    exact: torch.Tensor
    rows: list[SizeValues]
    names: list[str]
    outputs: list[ResultLeaf]
    behaviours: list[Behaviour]
    tolerance: float
    samples: Samples
    of_samples: int
    order_matters: bool
    unsteady: Unsteady | None

    @property
    def worst(self) -> int:
        """The number to explain: what is neither a mean nor a sum first, then single values, then the largest gap."""
        ranks = [
            (_HARM[self._seen(which)], self.outputs[which].is_single, self._gap(which))
            for which in range(len(self.names))
        ]
        return ranks.index(max(ranks))

    @property
    def behaviour(self) -> Behaviour:
        """Of the worst number: the result is a mean only if all of them are."""
        return self.behaviours[self.worst]

    @property
    def undefined(self) -> list[SizeValues]:
        """The batch sizes at which some batch gave NaN or raised."""
        return [row for row in self.rows if int(row.undefined[self.worst]) and row.size < self.samples.n]

    @property
    def is_constant(self) -> bool:
        """Whether all batches gave the same number: then nothing is known of others."""
        return all(float(row.spread[self.worst]) == 0 for row in self.rows)

    def curve(self) -> Curve:
        """The worst component over batch sizes."""
        each = self.samples.grouping.size
        found = curve(
            self.exact, self.rows, self.names, self.worst, self.tolerance,
            samples=each * self.samples.n, of_samples=each * self.of_samples, shuffled=not self.order_matters,
        )  # fmt: skip
        readings = (replace(one, size=each * one.size, last=each * one.last) for one in found.readings)
        return replace(found, readings=tuple(readings))

    def _seen(self, which: int) -> Behaviour | Literal["undefined"]:
        return self.behaviours[which] if bool(self.exact[which].isfinite()) else "undefined"

    def _gap(self, which: int) -> float:
        about = curve(self.exact, self.rows, self.names, which, self.tolerance, samples=0, of_samples=0)
        errors = [abs(about.error(reading.weighted)) for reading in about.readings]
        return max((error for error in errors if error == error), default=0.0)


class PickedValues(dict[str, Any]):
    """Some of the values that a function returned, by the paths that lead to them: torch names them by these."""


pytree.register_pytree_node(
    PickedValues,
    lambda values: (list(values.values()), list(values)),
    lambda leaves, paths: PickedValues(zip(paths, leaves, strict=True)),
    flatten_with_keys_fn=lambda values: (list(values.items()), list(values)),
)


def picked(target: Callable[..., Any], chosen: Sequence[bool]) -> Callable[..., PickedValues]:
    """The target with only some of the numeric leaves of its result."""

    def values_of_the_batch(*args: Any, **kwargs: Any) -> PickedValues:
        found = components.leaves(target(*args, **kwargs))
        return PickedValues(found[index] for index, is_chosen in enumerate(chosen) if is_chosen)

    return values_of_the_batch


def measure_function(
    target: Callable[..., Any],
    samples: Samples,
    sizes: Sizes,
    seed: int,
    progress: Progress | None,
    grouping: Grouping | None = None,
) -> FunctionMeasurement:
    """Run it on batches of every size; in double precision where the function allows that.

    Args:
        target: the function.
        samples: to call it with.
        sizes: of batches.
        seed: for the shuffle, and before each call.
        progress: told of each size.
        grouping: how samples belong together; found where the function fails on batches that split a group if None.
    """
    samples, tolerance = _precise(target, samples, seed)
    grouping = grouping or find_groups(target, samples, seed, tolerance)
    if grouping is not None:
        samples, sizes = samples.grouped(grouping), _sizes_of_groups(sizes, grouping.size)
    n = workable(_scorer(target, samples, seed), samples.n)
    head = samples.first(n)
    score = _scorer(target, head, seed)
    result = _result(target, head, seed)
    mixed = head.shuffled(seed) if n == samples.n else samples.shuffled(seed).first(n)
    exact = score(0, n)
    unsteady = _unsteady(target, head, exact, seed, tolerance)
    ordered = unsteady is None and _differs(exact, _scorer(target, head.shuffled(seed), seed)(0, n), tolerance)
    working = head if ordered else mixed
    exact, rows = measure(_scorer(target, working, seed), n, sizes(n), progress, shuffled=not ordered)
    behaviours = [_behaviour(exact, rows, which, n, tolerance) for which in range(len(exact))]
    names, outputs = components.names(result), _leaves_of(result)
    return FunctionMeasurement(
        exact, rows, names, outputs, behaviours, tolerance, working, samples.n, ordered, unsteady
    )


def _sizes_of_groups(sizes: Sizes, size: int) -> Sizes:
    """The batch sizes that hold whole groups, in groups; the usual numbers of groups where none of them does."""

    def of_groups(n: int) -> list[int]:
        whole = [count // size for count in sizes(n * size) if count % size == 0]
        return whole if any(count < n for count in whole) else default_sizes(n)

    return of_groups


def _unsteady(
    target: Callable[..., Any], samples: Samples, exact: torch.Tensor, seed: int, tolerance: float
) -> Unsteady | None:
    """A seed repeats what is drawn by chance, and does nothing against a counter or a moving average."""
    repeated = not _differs(exact, _scorer(target, samples, seed)(0, samples.n), tolerance)
    if repeated and not _differs(exact, _scorer(target, samples, seed + 1)(0, samples.n), tolerance):
        return None
    args, kwargs = samples.all()
    drawn = find_draws(target, args, kwargs)
    return Unsteady("random" if drawn or repeated else "state", next(filter(None, drawn), None))


def splits_alike(target: Callable[..., Any], samples: Samples, measured: FunctionMeasurement, seed: int) -> bool:
    """Whether batches that split groups say the same as those of whole groups: then the groups make no difference."""
    size = measured.samples.grouping.size
    score = _scorer(target, samples.shuffled(seed), seed)
    try:
        exact, rows = measure(score, samples.n, [max(1, size - 1), size, 2 * size + 1])
    except Exception:  # noqa: BLE001 - a function that fails on a part of a group needs whole ones
        return False
    return _behaviour(exact, rows, measured.worst, samples.n, measured.tolerance) == measured.behaviour


def also_elsewhere(target: Callable[..., Any], measured: FunctionMeasurement, seed: int) -> bool:
    """Whether it behaves on other data as it was measured to: samples that are all alike hide what a function does."""
    other = measured.samples.varied(seed)
    sizes = [size for size in (1, 2, 5, 16) if size < other.n]
    try:
        score = _scorer(target, other, seed)
        exact, rows = measure(score, other.n, sizes, shuffled=not measured.order_matters)
    except Exception:  # noqa: BLE001 - other data may lie outside the function's domain: then nothing is known
        return False
    return _behaviour(exact, rows, measured.worst, other.n, measured.tolerance) == measured.behaviour


def _scorer(target: Callable[..., Any], samples: Samples, seed: int) -> Score:
    def score(lo: int, hi: int) -> torch.Tensor:
        seed_all(seed)
        args, kwargs = samples.batch(lo, hi)
        return components.values(target(*args, **kwargs))

    return score


def _result(target: Callable[..., Any], samples: Samples, seed: int) -> Any:
    seed_all(seed)
    args, kwargs = samples.all()
    result = target(*args, **kwargs)
    if not components.tensors(result):
        raise BatchproofError(f"the target returned {type(result).__name__}: there is no number in it to explain")
    return result


def _leaves_of(result: Any) -> list[ResultLeaf]:
    """For each number that is measured, the leaf of the result that it belongs to."""
    flat = pytree.tree_leaves(result)
    numeric = [(position, leaf) for position, leaf in enumerate(flat) if components.is_numeric(leaf)]
    found: list[ResultLeaf] = []
    for (position, leaf), (path, tensor) in zip(numeric, components.tensors(result), strict=True):
        count = tensor.numel() * (2 if tensor.is_complex() else 1)
        single = tensor.numel() == 1
        found += [ResultLeaf(path, position, single, single and hasattr(leaf, "item"))] * count
    return found[: components.MOST]


def _precise(target: Callable[..., Any], samples: Samples, seed: int) -> tuple[Samples, float]:
    """Double precision shows a dependence at rounding level; a function with float32 parameters may refuse it."""
    floating = samples.floating
    narrow = max((_TOLERANCE.get(leaf.dtype, COARSE) for leaf in floating), default=1e-6)
    if sum(leaf.nbytes for leaf in floating) > MOST_BYTES:
        return samples, narrow
    wide = samples.double()
    few = min(samples.n, 64)
    try:
        a, b = (_scorer(target, data, seed)(0, few) for data in (samples, wide))
        if not _differs(a, b, COARSE):
            return wide, 1e-6
    except Exception:  # noqa: BLE001 - then it is measured as the user would run it
        pass
    return samples, narrow


def _differs(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    return not close(left, right, tolerance, NEXT_TO_NOTHING)


def _behaviour(exact: torch.Tensor, rows: Sequence[SizeValues], which: int, n: int, tolerance: float) -> Behaviour:
    defined = [row for row in rows if row.size < n and not int(row.undefined[which])]
    about = curve(exact, rows, [str(index) for index in range(len(exact))], which, tolerance, samples=n, of_samples=n)
    if defined and all(about.is_exact(float(row.weighted[which])) for row in defined):
        return "mean"
    adds = [abs(float(row.total[which] - row.together[which])) for row in defined]
    scales = [float(row.magnitude[which]) * row.batches for row in defined]
    if defined and all(gap <= tolerance * scale for gap, scale in zip(adds, scales, strict=True)):
        return "sum"
    return "other"


def direction(about: Curve) -> Direction | None:
    """Whether the mean of batches is too low or too high: told by whole batches, where there are enough of them.

    A short last batch is a batch of another size, and two batches of most of the samples are no average.  An F1 that
    is 64 % too low on single samples and 1 % too high in quarters is too low: how samples fell into a few batches is
    chance.
    """
    n = about.samples
    gaps = [_gap(about, reading, n) for reading in about.readings if 4 * reading.size <= n]
    if not any(gaps):
        gaps = [_gap(about, reading, n) for reading in about.readings]
    above, below = max((0.0, *gaps)), max((0.0, *(-gap for gap in gaps)))
    if not above and not below:
        return None
    if min(above, below) > SLIGHT * max(above, below):
        return "varies"
    return "high" if above > below else "low"


def _gap(about: Curve, reading: Reading, n: int) -> float:
    """How far the mean of whole batches lies above what their samples give at once; 0 where none can say."""
    whole = reading.whole == reading.whole and reading.size <= n // 2
    value, true = (reading.dropped, reading.whole) if whole else (reading.weighted, about.exact)
    error, noise = value - true, 2 * (reading.standard_error or 0.0)
    unknown = reading.size >= n or error != error or abs(error) <= noise or about.same(value, true)
    return 0.0 if unknown else error
