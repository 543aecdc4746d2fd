"""Stream: the samples or the state that a metric holds, and how batches enter it.

Samples are kept until there are enough to derive the function's constant-size form; then they are folded. Where there
is no such form they stay. A batch is checked and folded completely before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive import Plan, derive
from batchproof.derive.deriving import like
from batchproof.derive.finish import Diverged, State
from batchproof.derive.plain import OwnError, keep_inputs
from batchproof.derive.samples import Batch, few
from batchproof.errors import BatchproofError, NotConstantSize
from batchproof.streaming.arguments import Call, Layout, join, keep, rebuild, shape_of, signature
from batchproof.streaming.state import GROUPS, Slots

Fold = Callable[[Sequence[Any]], Any]
Folded = tuple[list[torch.Tensor], list[int], int]


@dataclass
class Variant:
    """The plan for batches of one signature (sequences padded to one length, say), and its fold."""

    plan: Plan
    example: Call
    hot: Fold
    fold: Callable[..., Any]
    used: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)  # captured tensors, as they were


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
            if torch.is_grad_enabled():
                with torch.no_grad():
                    return self.hot(args)  # type: ignore[no-any-return]
            return self.hot(args)  # type: ignore[no-any-return]
        except BatchproofError:
            raise
        except Exception as error:
            raise _unfoldable(error) from error

    def commit(self, folded: Folded) -> None:
        """Merge a folded batch into the state."""
        slots = self.slots
        assert slots is not None
        slots.add(self.updates % slots.groups, *folded)
        self.updates += 1

    def fold(self, call: Call) -> None:
        """Take a batch in, by whatever way it needs."""
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
            self.first = _one_sample(call)
        self.updates += 1

    def postpone(self, own: OwnError) -> None:
        """The function raises on the samples so far (the maximum of an empty selection): derive from twice as many."""
        self.enough *= 2
        if self.state == "constant" and own.__cause__ is not None:
            raise own.__cause__ from None

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
            tensors, dims = _tensors(call)
            with torch.inference_mode(False), quiet(self.fn), _no_autocast(tensors[0]):
                plan = like(self.plan, _flat(self.fn, call), [t.detach().clone() for t in tensors], dims)
            found = self.variants[key] = _variant(plan, call)
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
            self.plan, self.lesson, self.first = plan, lesson, self.first or _one_sample(lesson)
            self.variants = {signature(lesson): _variant(plan, lesson)}
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
        groups: dict[Any, list[Call]] = {}
        for call in calls:
            groups.setdefault(signature(call), []).append(call)
        return join(max(groups.values(), key=lambda group: sum(call.n for call in group)))

    def derived(self, lesson: Call) -> Plan:
        if not lesson.all_tensors():
            return _foreign_plan(lesson)
        tensors, dims = _tensors(lesson)
        with torch.inference_mode(False), quiet(self.fn), _no_autocast(tensors[0]):
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
            tensors, dims = _tensors(variant.example)
            with torch.inference_mode(False), quiet(self.fn), _no_autocast(tensors[0]):
                result = variant.plan.finish(State(leaves, lengths, n), tensors, dims, n)
            values.append(typed(result, variant.plan.dtypes))
        if any(not _alike_tree(other, values[0]) for other in values[1:]):
            raise Diverged(
                "batches came with samples of different shapes, and the function's value depends on which of them all "
                "samples have; pad them to one length"
            )
        return values[0]

    def unchanged(self, variant: Variant) -> None:
        for now, then in variant.used:
            if not _alike(now, then):
                raise Diverged(
                    f"a tensor of shape {tuple(now.shape)} that the function takes from outside its arguments has "
                    "changed since the first batch; pass it as an argument, or use state='rows'"
                )


def _unfoldable(error: Exception) -> BatchproofError:
    return BatchproofError(
        f"this batch does not fit what was derived from the first ones ({type(error).__name__}: {error}): "
        "the function's sizes depend on the data; use state='rows' to keep the samples"
    )


def _count(part: Any) -> int:
    if part is None:
        return 0
    return sum(part.counts) if isinstance(part, Slots) else sum(call.n for _, call in part)


def _own(leaf: Any) -> Any:
    """A function may write into its arguments: it gets its own."""
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _one_sample(call: Call) -> Call:
    leaves = []
    for leaf, dim in zip(call.leaves, call.layout.dims, strict=True):
        if dim is None:
            leaves.append(leaf)
        elif isinstance(leaf, torch.Tensor):
            leaves.append(leaf.detach().narrow(dim, 0, 1).clone())
        else:
            leaves.append(leaf[:1])
    return Call(call.layout, leaves, 1)


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


def _tensors(call: Call) -> tuple[list[torch.Tensor], tuple[int | None, ...]]:
    """The tensors of a call and their batch dimensions; other leaves are fixed."""
    pairs = [
        (leaf, dim) for leaf, dim in zip(call.leaves, call.layout.dims, strict=True) if isinstance(leaf, torch.Tensor)
    ]
    return [leaf for leaf, _ in pairs], tuple(dim for _, dim in pairs)


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
    tensors, dims = _tensors(call)
    return (tensors, dims) if any(dim is not None for dim in dims) else ([torch.zeros(call.n)], (0,))


def _foreign_plan(call: Call) -> Plan:
    return keep_inputs(Batch(*_columns(call)), "its arguments are not torch tensors, so it cannot be recorded")


def _variant(plan: Plan, call: Call) -> Variant:
    assert plan.program is not None
    folded = plan.compiled()
    captured = plan.program.captured
    example = Call(call.layout, _few_leaves(call), 0)

    def fold(batch: Call) -> Folded:
        tensors = _tensors(batch)[0]
        try:
            with _no_autocast(tensors[0]):
                values, lengths = folded(tensors, captured)
        except Exception as error:
            raise _unfoldable(error) from error
        _check_shapes(plan, values)
        return values, lengths, batch.n

    used = [(t, t.detach().clone()) for i, t in captured.items() if i in plan.folds]
    return Variant(plan, example, _hot(plan, call, folded, captured), fold, used)


def _few_leaves(call: Call) -> list[Any]:
    return _one_sample(call).leaves


def _check_shapes(plan: Plan, values: Sequence[torch.Tensor]) -> None:
    for leaf, value in zip(plan.leaves, values, strict=True):
        expected = (leaf.points, *leaf.shape) if leaf.centred else leaf.shape
        if leaf.merge != "rows" and tuple(value.shape) != tuple(expected):
            raise BatchproofError(
                f"this batch gives a value of shape {tuple(value.shape)} where the first batches gave {expected}, at "
                f"{leaf.site}: its size depends on the data; fix it (minlength=, num_classes=), or use state='rows'"
            )


@contextmanager
def _no_autocast(tensor: torch.Tensor) -> Iterator[None]:
    kind = tensor.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            yield
    else:
        yield


def _hot(plan: Plan, call: Call, folded: Callable[..., Any], captured: dict[int, torch.Tensor]) -> Fold:
    """The short way for a batch of plain tensors that is like the first: checked and folded with little Python."""
    dims = call.layout.dims
    plain = (
        len(call.layout.skeletons) == len(call.leaves)
        and all(leaf == 0 for leaf in call.layout.skeletons)
        and not call.layout.keywords
    )
    if not plain or any(
        dim is None or not isinstance(leaf, torch.Tensor) for leaf, dim in zip(call.leaves, dims, strict=False)
    ):
        return lambda args: None
    space: dict[str, Any] = {"Tensor": torch.Tensor, "folded": folded, "captured": captured, "plan": plan}
    space |= {"check": _check_shapes, "autocast": torch.is_autocast_enabled}
    names = [f"a{i}" for i in range(len(dims))]
    lines = [
        f"if len(args) != {len(names)}: return None",
        f"{', '.join(names)}, = args",
        f"if not ({' and '.join(f'isinstance({name}, Tensor)' for name in names)}): return None",
        f"if a0.ndim <= {dims[0]}: return None",
        f"n = a0.shape[{dims[0]}]",
        "if n == 0: return None",
    ]
    for i, (leaf, dim) in enumerate(zip(call.leaves, dims, strict=True)):
        space |= {f"d{i}": leaf.dtype, f"v{i}": leaf.device}
        sizes = ["n" if k == dim else str(size) for k, size in enumerate(leaf.shape)]
        shape = f"({', '.join(sizes)},)"
        lines.append(f"if a{i}.dtype is not d{i} or a{i}.device != v{i} or a{i}.shape != {shape}: return None")
    lines += [
        f"if autocast({call.leaves[0].device.type!r}): return None",
        "values, lengths = folded(args, captured)",
    ]
    if any(not _fixed_shape(plan, index) for index in plan.kept):
        lines.append("check(plan, values)")
    lines.append("return values, lengths, n")
    exec("def hot(args):\n    " + "\n    ".join(lines), space)
    return space["hot"]  # type: ignore[no-any-return]


def _fixed_shape(plan: Plan, index: int) -> bool:
    """Whether a leaf has one shape whatever the data: all but counts per value seen."""
    assert plan.program is not None
    op = plan.program.values[index].op
    return op is None or "bincount" not in plan.program.ops[op].name


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


@contextmanager
def quiet(fn: Callable[..., Any]) -> Iterator[None]:
    """Calls made for our own sake leave the buffers of the modules that a function uses as they were."""
    buffers = [buffer for module in modules_of(fn) for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(buffers, before, strict=True):
                if not torch.equal(buffer, old):
                    buffer.copy_(old)


def modules_of(fn: Any) -> list[torch.nn.Module]:
    """The modules that a function is, holds, or names."""
    if isinstance(fn, torch.nn.Module):
        return [fn]
    held: list[Any] = [getattr(fn, "func", None), getattr(fn, "__self__", None), *getattr(fn, "args", ())]
    code = getattr(fn, "__code__", None)
    if code is not None:
        names = getattr(fn, "__globals__", {})
        held += [names.get(name) for name in code.co_names]
        for cell in fn.__closure__ or ():
            with suppress(ValueError):  # not filled yet
                held.append(cell.cell_contents)
    found = [thing for thing in held if isinstance(thing, torch.nn.Module)]
    inner = [thing for thing in held if callable(thing) and not isinstance(thing, (torch.nn.Module, type))]
    for thing in inner:
        if getattr(thing, "__closure__", None) or hasattr(thing, "__self__"):
            found += [m for m in (getattr(thing, "__self__", None),) if isinstance(m, torch.nn.Module)]
    return found


__all__ = ["Stream", "few", "quiet", "typed"]
