"""Stream: the samples or the state that a metric holds, and how batches enter it.

Samples are kept until there are enough to derive the function's constant-size form; then they are folded. Where there
is no such form they stay. A batch is checked and folded completely before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive import Plan, derive
from batchproof.derive.deriving import like
from batchproof.derive.finish import Diverged, State
from batchproof.derive.plain import OwnError, keep_inputs
from batchproof.derive.samples import Batch
from batchproof.errors import BatchproofError, NotConstantSize
from batchproof.streaming.arguments import (
    Call,
    Layout,
    by_shape,
    join,
    keep,
    one_sample,
    rebuild,
    shape_of,
    signature,
    tensors_of,
)
from batchproof.streaming.folding import Fold, Folded, Variant, no_autocast, unfoldable, variant_of, version
from batchproof.streaming.modules import quiet
from batchproof.streaming.state import GROUPS, Slots


class Stream:
    """What one metric has seen of a function's batches."""

    def __init__(self, fn: Callable[..., Any], state: str, warmup: int) -> None:
        self.fn = fn
        self.state = state
        self.warmup = warmup
        self.reset()

    def reset(self) -> None:
        self.rows: list[tuple[int, Call]] = []  # (group, batch)
        self.slots: Slots | None = None
        self.variants: dict[Any, Variant] = {}
        self.plan: Plan | None = None
        self.lesson: Call | None = None  # the rows that the plan was derived from
        self.first: Call | None = None  # one sample of the first batch: what all later ones must be like
        self.updates = 0
        self.enough = self.warmup  # samples to derive from
        self.hot: Fold | None = None
        self.synced: Slots | list[tuple[int, Call]] | None = None
        self.own: Slots | list[tuple[int, Call]] | None = None

    @property
    def n(self) -> int:
        """Samples folded in, those of other processes included once they are synced."""
        return sum(_count(part) for part in (self.rows, self.slots, self.synced))

    # ------------------------------------------------------------------ a batch enters

    def ready(self, args: Sequence[Any]) -> Folded | None:
        """Fold a batch that is like the ones before, without changing the state; None where it needs a closer look."""
        if self.hot is None:
            return None
        try:
            return self.hot(args)  # type: ignore[no-any-return]
        except BatchproofError:
            raise
        except Exception as error:
            raise unfoldable(error) from error

    def commit(self, folded: Folded) -> None:
        """Merge a folded batch into the state."""
        slots = self.slots
        assert slots is not None
        slots.add(self.updates % slots.groups, *folded)
        self.updates += 1

    def fold(self, call: Call) -> None:
        """Take a batch in, by whatever way it needs."""
        call = self.ordered(call)
        self.check(call)
        if self.slots is not None:
            with torch.no_grad():
                self.commit(self.variant(call).fold(call))
            return
        rows = [*self.rows, (self.updates % GROUPS, keep(call))]
        if self.plan is None and self.state != "rows" and sum(part.n for _, part in rows) >= self.enough:
            try:
                self.settle(rows)
            except OwnError as own:
                self.postpone(own)
        if self.slots is None:
            self.rows = rows
        if self.first is None:
            self.first = one_sample(call)
        self.updates += 1

    def postpone(self, own: OwnError) -> None:
        """The function raises on the samples so far (the maximum of an empty selection): derive from twice as many."""
        self.enough *= 2
        if self.state == "constant" and own.__cause__ is not None:
            raise own.__cause__ from None

    def ordered(self, call: Call) -> Call:
        """A batch with its leaves in the order of the first one's: a dictionary's entries come in any order."""
        first = self.first
        names = call.layout.names
        if first is None or names == first.layout.names or sorted(names) != sorted(first.layout.names):
            return call
        places = [names.index(name) for name in first.layout.names]
        dims = tuple(call.layout.dims[place] for place in places)
        same = dims == first.layout.dims and call.layout.keywords == first.layout.keywords
        return Call(first.layout, [call.leaves[place] for place in places], call.n) if same else call

    def check(self, call: Call) -> None:
        """A batch must be of the same kind as the first: structure, dtypes, devices, shared arguments."""
        first = self.first
        if first is None:
            return
        if call.layout.skeletons != first.layout.skeletons or call.layout.keywords != first.layout.keywords:
            raise BatchproofError(
                "the arguments are structured differently from those of the first batch: "
                f"{', '.join(call.layout.names)} now, {', '.join(first.layout.names)} then"
            )
        for label, dim, new, old in zip(first.layout.names, first.layout.dims, call.leaves, first.leaves, strict=True):
            if isinstance(new, torch.Tensor) and isinstance(old, torch.Tensor):
                if new.dtype != old.dtype or new.device != old.device:
                    raise BatchproofError(
                        f"argument {label} is {new.dtype} on {new.device}; the first batch's was {old.dtype} on "
                        f"{old.device}: convert it first"
                    )
                if new.ndim != old.ndim:
                    raise BatchproofError(
                        f"argument {label} has {shape_of(new)}; the first batch's had {old.ndim} dimensions"
                    )
            elif type(new) is not type(old):
                raise BatchproofError(
                    f"argument {label} is a {type(new).__name__}; the first batch's was a {type(old).__name__}"
                )
            if dim is None and not _alike(new, old):
                raise BatchproofError(
                    f"argument {label} is shared by all batches (it carries no samples), and differs from the "
                    "first batch's"
                )

    def variant(self, call: Call) -> Variant:
        """The fold for batches like this one; a new shape derives again and must fit the state."""
        key = signature(call)
        found = self.variants.get(key)
        if found is None:
            assert self.plan is not None
            tensors, dims = tensors_of(call)
            with torch.inference_mode(False), quiet(self.fn), no_autocast(tensors[0]):
                plan = like(self.plan, _flat(self.fn, call), [t.detach().clone() for t in tensors], dims)
            found = self.variants[key] = variant_of(plan, call)
        return found

    # ------------------------------------------------------------------ from rows to a state

    def settle(self, rows: list[tuple[int, Call]]) -> None:
        """Derive the plan from the rows at hand, and fold them."""
        lesson = self.learnable([call for _, call in rows])
        plan = self.derived(lesson)
        if not plan.is_constant_size and self.state == "constant":
            raise NotConstantSize(f"no state of constant size: {plan.reason}; state='auto' keeps samples instead")
        if plan.keeps_inputs:
            self.plan, self.lesson = plan, lesson
            return
        self.adopt(plan, lesson, rows)

    def adopt(self, plan: Plan, lesson: Call, rows: list[tuple[int, Call]]) -> None:
        """Fold rows by a plan, which from then on is ours; nothing changes if one of them cannot be."""
        before = dict(self.__dict__)
        try:
            self.plan, self.lesson, self.first = plan, lesson, self.first or one_sample(lesson)
            self.variants = {signature(lesson): variant_of(plan, lesson)}
            with torch.inference_mode(False):
                slots = Slots.empty(plan, lesson.columns[0].device)
            with torch.no_grad():
                for group, call in rows:
                    slots.add(group % slots.groups, *self.variant(call).fold(call))
            self.slots, self.rows = slots, []
            self.hot = next(iter(self.variants.values())).hot
        except BaseException:
            self.__dict__.update(before)
            raise

    def learnable(self, calls: Sequence[Call]) -> Call:
        """The rows to derive from: those of the shape that most rows have."""
        return join(by_shape(calls)[0])

    def derived(self, lesson: Call) -> Plan:
        if not lesson.all_tensors():
            return _foreign_plan(lesson)
        tensors, dims = tensors_of(lesson)
        with torch.inference_mode(False), quiet(self.fn), no_autocast(tensors[0]):
            return derive(_flat(self.fn, lesson), [t.clone() if t.is_inference() else t for t in tensors], dims)

    def planned(self) -> Plan:
        """The plan, derived now from the samples at hand if it has not been yet."""
        if self.plan is not None:
            return self.plan
        if self.n == 0:
            raise BatchproofError("no plan yet: it is derived from the first samples; call update first")
        rows = self.parts()
        assert isinstance(rows, list)
        lesson = self.learnable([call for _, call in rows])
        if self.state == "rows":
            return keep_inputs(Batch(*_columns(lesson)), "state='rows' was asked for")
        try:
            return self.derived(lesson)
        except OwnError as own:
            error = own.__cause__
            return keep_inputs(
                Batch(*_columns(lesson)), f"it raises on the samples so far ({type(error).__name__}: {error})"
            )

    # ------------------------------------------------------------------ a value comes out

    def compute(self) -> Any:
        """The function's value on all samples.

        Raises:
            BatchproofError: there are none, or the function goes another way on all of them than on the batches.
        """
        parts = self.parts()
        if isinstance(parts, Slots):
            return self.value(parts, parts.filled())
        return self.called([call for _, call in parts])

    def parts(self) -> Slots | list[tuple[int, Call]]:
        """All that is held: our own since the last sync, and what that sync brought."""
        if self.n == 0:
            raise BatchproofError("compute before any data: no batch has been folded in yet; call update first")
        if isinstance(self.synced, Slots):
            total = self.synced.clone()
            if self.slots is not None:
                total.absorb(self.slots)
            return total
        if self.slots is not None:
            return self.slots
        return [*(self.synced or []), *self.rows]

    def called(self, calls: Sequence[Call]) -> Any:
        args, kwargs = rebuild(calls[0].layout, [_own(leaf) for leaf in join(calls).leaves])
        with torch.enable_grad(), quiet(self.fn):  # a loss may take gradients of its own
            value = self.fn(*args, **kwargs)
        return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, value)

    def value(self, slots: Slots, groups: Sequence[int]) -> Any:
        """The function's value on the samples of some groups."""
        leaves, lengths, n = slots.merged(groups)
        values = []
        for variant in self.variants.values():
            self.unchanged(variant)
            tensors, dims = tensors_of(variant.example)
            with torch.inference_mode(False), quiet(self.fn), no_autocast(tensors[0]):
                result = variant.plan.finish(State(leaves, lengths, n), tensors, dims, n)
            values.append(typed(result, variant.plan.dtypes))
        if any(not _alike_tree(other, values[0]) for other in values[1:]):
            raise Diverged(
                "batches came with samples of different shapes, and the function's value depends on which of them all "
                "samples have; pad them to one length"
            )
        return values[0]

    def unchanged(self, variant: Variant) -> None:
        for now, then, writes in variant.used:
            if version(now) != writes or not _alike(now, then):
                raise Diverged(
                    f"a tensor of shape {tuple(now.shape)} that the function takes from outside its arguments has "
                    "changed since the first batch; pass it as an argument, or use state='rows'"
                )


def _count(part: Any) -> int:
    if part is None:
        return 0
    return sum(part.counts) if isinstance(part, Slots) else sum(call.n for _, call in part)


def _own(leaf: Any) -> Any:
    """A function may write into its arguments: it gets its own."""
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _alike(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool(torch.allclose(a.detach(), b.detach(), rtol=0, atol=0, equal_nan=True))
    try:
        return bool(a == b)
    except (ValueError, RuntimeError):
        import numpy

        return bool(numpy.array_equal(a, b))


def _alike_tree(a: Any, b: Any) -> bool:
    pairs = zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True)
    for x, y in pairs:
        x, y = torch.as_tensor(x).double(), torch.as_tensor(y).double()
        if x.shape != y.shape or not torch.allclose(x, y, rtol=1e-9, atol=0, equal_nan=True):
            return False
    return True


def _flat(fn: Callable[..., Any], call: Call) -> Callable[..., Any]:
    """The user's function, of the tensors alone."""
    layout: Layout = call.layout
    fixed = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in call.leaves]
    positions = [i for i, leaf in enumerate(call.leaves) if isinstance(leaf, torch.Tensor)]

    def flat(*tensors: torch.Tensor) -> Any:
        leaves = list(fixed)
        for position, tensor in zip(positions, tensors, strict=True):
            leaves[position] = tensor
        args, kwargs = rebuild(layout, leaves)
        return fn(*args, **kwargs)

    return flat


def _columns(call: Call) -> tuple[list[torch.Tensor], tuple[int | None, ...]]:
    """What a kept sample weighs, as tensors."""
    tensors, dims = tensors_of(call)
    return (tensors, dims) if any(dim is not None for dim in dims) else ([torch.zeros(call.n)], (0,))


def _foreign_plan(call: Call) -> Plan:
    return keep_inputs(Batch(*_columns(call)), "its arguments are not torch tensors, so it cannot be recorded")


def typed(result: Any, dtypes: Sequence[Any]) -> Any:
    """A result in the types that the function returns."""
    flat, tree = pytree.tree_flatten(result)
    cast = []
    for leaf, dtype in zip(flat, dtypes, strict=True):
        if isinstance(leaf, torch.Tensor):
            cast.append(leaf.to(dtype) if isinstance(dtype, torch.dtype) else dtype(leaf.item()))
        else:
            cast.append(torch.as_tensor(leaf, dtype=dtype) if isinstance(dtype, torch.dtype) else leaf)
    return pytree.tree_unflatten(cast, tree)
