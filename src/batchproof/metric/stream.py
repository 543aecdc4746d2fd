"""Stream: the samples or the state that a metric holds, and how batches enter it.

Samples are kept until there are enough to derive the function's constant-size form; then they are folded. Where there
is no such form they stay. A batch is checked and folded completely before anything is changed, and then the change is
one assignment: an error or an interrupt finds the state as it was, or as it will be.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch.utils import _pytree as pytree

from batchproof.derive import (
    WIDE,
    Diverged,
    Finisher,
    Loop,
    OwnError,
    Plan,
    State,
    StatePlan,
    TensorBatch,
    check_finishes,
    check_folds,
    derive,
    derive_groups,
    few,
    keep_inputs,
    like,
    nudge_state,
    of_bytes,
    with_function,
)
from batchproof.errors import BatchproofError, NotConstantSize
from batchproof.ground import tensors
from batchproof.ground.batch import (
    Batch,
    Layout,
    by_shape,
    join,
    keep,
    one_sample,
    rebuild,
    same,
    shape_of,
    signature,
    tensors_of,
)
from batchproof.ground.isolation import quiet
from batchproof.metric.answers import Answers
from batchproof.metric.fast_path import Fold, Folded, Variant, no_autocast, unfoldable, variant_of
from batchproof.metric.grouped_state import GROUPS, GroupedState
from batchproof.metric.order import noted
from batchproof.metric.origin import Clock, Origin, Part, Past, Rows, both, size
from batchproof.metric.recheck import recheck
from batchproof.metric.reservoir import NOTHING, Reservoir, Sample, mixed

T = TypeVar("T")

#: A sample of a shape, and the plan that such samples are folded by; with a plan, the sample is blank.
Shape = tuple[Batch, bytes | None]


class Stream:
    """What one metric has seen of a function's batches: its updates since the last `seal`, and all from before."""

    def __init__(self, fn: Callable[..., Any], state: str, warmup: int, differentiated: bool = False) -> None:
        self.fn = fn
        self.differentiated = differentiated  # see `derive`
        self.state = state
        self.warmup = warmup
        self.rows: Rows = []  # since the seal, where samples are kept
        self.slots: GroupedState | None = None  # since the seal, where they are folded
        self.past: Past | None = None
        self.log = ""  # see `origin`; named when it is first asked for
        self.process = 0
        self.forgotten: frozenset[str] = frozenset()
        self.variants: dict[Any, Variant] = {}
        self.plan: Plan | None = None
        self.training_rows: Batch | None = None  # the few rows that the plan was derived from
        self.first: Batch | None = None  # one sample of the first batch: what all later ones must be like
        self.updates = 0
        self.enough = warmup  # samples to derive from
        self.fast: Fold | None = None
        self.reservoir = Reservoir()
        self.rechecked: Any = None  # the samples that the plan was last tried on

    @property
    def n(self) -> int:
        """Samples folded in, those of other processes included once they are synced."""
        return size(self.since) + (size(self.past.held) if self.past is not None else 0)

    @property
    def since(self) -> Part:
        """What came since the seal."""
        return self.rows if self.slots is None else self.slots

    @property
    def lesson(self) -> Batch | None:
        """The training rows, by the name that a saved state has for them."""
        return self.training_rows

    def emptied(self) -> Stream:
        """A stream of the same function that has seen nothing."""
        fresh = Stream(self.fn, self.state, self.warmup, self.differentiated)
        origin = self.origin(name=False)
        fresh.forgotten = origin.forgotten | origin.owned.keys()
        return fresh

    def with_plan_alone(self) -> Stream:
        """A stream of the same plan that has seen nothing."""
        fresh = self.emptied()
        fresh.first, fresh.plan, fresh.training_rows = self.first, self.plan, self.training_rows
        fresh.variants = dict(self.variants)
        assert self.slots is not None
        fresh.slots = GroupedState.empty(self.state_plan, self.slots.device)
        return fresh

    def draft(self) -> Stream:
        """A stream to make a change in, which `become` then puts in force at once."""
        other = object.__new__(Stream)
        other.__dict__.update(self.__dict__)
        other.variants = dict(self.variants)
        return other

    def become(self, draft: Stream) -> None:
        """Put a draft's change in force."""
        self.__dict__.update(draft.__dict__)

    # ------------------------------------------------------------------ a batch enters

    def ready(self, args: Sequence[Any]) -> Folded | None:
        """Fold a batch that is like the ones before, without changing the state; None where it needs a closer look."""
        fast = self.fast
        if fast is None:
            if self.slots is None:
                return None
            self.fast = fast = next(iter(self.variants.values())).fast
        try:
            return fast(args)  # type: ignore[no-any-return]
        except BatchproofError:
            raise
        except Exception as error:
            raise unfoldable(error) from error

    def ready_to_call(self, args: Sequence[Any]) -> tuple[Folded, Answers | None] | None:
        """Fold a batch that the function will be called on, as `ready` does, and say what is computed already."""
        answering = None if self.slots is None else next(iter(self.variants.values())).answering
        if answering is not None:
            try:
                found = answering(args)
            except BatchproofError:
                raise
            except Exception as error:
                raise unfoldable(error) from error
            if found is not None:
                return found
        ready = self.ready(args)
        return None if ready is None else (ready, None)

    def commit(self, folded: Folded, args: Sequence[Any], drawn: bool = False) -> None:
        """Merge a folded batch into the state.

        Args:
            folded: by `ready`.
            args: the batch, its samples not written to since.
            drawn: whether `draw` was called already.
        """
        slots = self.slots
        assert slots is not None
        slots.add(self.updates % slots.groups, *folded)
        self.updates += 1
        if not drawn:
            self.draw(args, folded[2])

    def draw(self, leaves: Sequence[Any], n: int) -> None:
        """Keep some of a batch's samples for the end, if it is their turn."""
        reservoir = self.reservoir
        seen = reservoir.seen + n
        if seen < reservoir.due:
            reservoir.seen = seen
        else:
            reservoir.take(self.batch_of(leaves, n))

    def draws(self, n: int) -> bool:
        """Whether one of the next n samples is to be kept for the end."""
        return self.reservoir.seen + n >= self.reservoir.due

    def called(self, args: Sequence[Any], n: int, call: Callable[[], T]) -> T:
        """What a call of the function gives, which may write into its arguments: samples are drawn before it.

        Where it raises, they are put back.
        """
        mark = self.reservoir.mark() if self.draws(n) else None
        self.draw(args, n)
        try:
            return call()
        except BaseException:
            self.reservoir.back(mark or {"seen": self.reservoir.seen - n})
            raise

    def batch_of(self, leaves: Sequence[Any], n: int) -> Batch:
        """A batch of which the leaves that carry samples are new."""
        first = self.first
        assert first is not None
        own = [
            old if dim is None else new for dim, new, old in zip(first.layout.dims, leaves, first.leaves, strict=True)
        ]
        return Batch(first.layout, own, n)

    def fold(self, call: Batch) -> None:
        """Take a batch in, by whatever way it needs."""
        self.prepared(call)()

    def prepared(self, call: Batch, kept: bool = False) -> Callable[[], None]:
        """Fold a batch without changing the state; what comes back puts it in.

        Args:
            call: the batch.
            kept: whether it is a copy already, as `keep` makes it.
        """
        call = self.ordered(call)
        self.check(call)
        if self.slots is not None:
            with torch.no_grad():
                return partial(self.commit, self.variant(call).fold(call), call.leaves)
        row = self.updates % GROUPS, call if kept else keep(call)
        if self.first is not None and (self.plan is not None or self.state == "rows"):
            return partial(self._keep, row)
        draft = self.draft()
        draft.rows = [*self.rows, row]
        draft.first = self.first or one_sample(row[1])  # of the copy: the caller may write into what is shared
        draft.updates += 1
        draft.settle()
        return partial(self.become, draft)

    def _keep(self, row: tuple[int, Batch]) -> None:
        self.rows.append(row)
        self.updates += 1

    def postpone(self, own: OwnError) -> None:
        """The function raises on the samples so far (the maximum of an empty selection): derive from twice as many."""
        self.enough *= 2
        if self.state == "constant" and own.__cause__ is not None:
            raise own.__cause__ from None

    def ordered(self, call: Batch) -> Batch:
        """A batch with its leaves in the order of the first one's: a dictionary's entries come in any order."""
        first = self.first
        names = call.layout.names
        if first is None or names == first.layout.names or sorted(names) != sorted(first.layout.names):
            return call
        places = [names.index(name) for name in first.layout.names]
        dims = tuple(call.layout.dims[place] for place in places)
        same = dims == first.layout.dims and call.layout.keywords == first.layout.keywords
        return Batch(first.layout, [call.leaves[place] for place in places], call.n) if same else call

    def check(self, call: Batch) -> None:
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
            if dim is None and not same(new, old):
                raise BatchproofError(
                    f"argument {label} is shared by all batches (it carries no samples), and differs from the "
                    "first batch's"
                )

    def variant(self, call: Batch, alone: bool = False) -> Variant:
        """The fold for batches like this one; a new shape derives again and must fit the state.

        Where it is not folded ``alone``, its samples' sizes must not enter beside those of the first shape.
        """
        key = signature(call)
        found = self.variants.get(key)
        if found is None:
            assert self.plan is not None
            tensors, dims = tensors_of(call)
            with torch.inference_mode(False), quiet(self.fn), no_autocast(tensors[0]):
                plan = like(self.state_plan, self.flat(call), [t.detach().clone() for t in tensors], dims)
            found = variant_of(plan, call)
            if not alone:
                self.beside(found)
            self.variants[key] = found
        return found

    def beside(self, variant: Variant) -> None:
        """Compare what a variant folds with what the first one does, once."""
        first = next(iter(self.variants.values()), variant).plan
        if variant.plan is not first and variant.beside is not first:
            check_folds(first, variant.plan)
            variant.beside = first

    def shapes(self) -> list[Shape]:
        """The shapes that samples came in, here or elsewhere."""
        if self.slots is not None:
            return [(blank(variant.example), variant.data) for variant in self.variants.values()]
        return [(one_sample(group[0]), None) for group in by_shape([call for _, call in self.kept()])]

    def meet(self, shapes: Sequence[Shape]) -> None:
        """Learn the shapes of samples that come from elsewhere, by plans at our centres.

        Raises:
            BatchproofError: the state is another one for them.
        """
        for example, plan in shapes:
            call = self.ordered(example)
            if signature(call) in self.variants:
                continue
            if plan is None:
                self.variant(call)
                continue
            self.add(of_bytes(plan, self.flat(call), call.columns[0].device), call)

    def add(self, plan: StatePlan, example: Batch) -> None:
        """Take a plan over for samples of another shape, its sums at our centres.

        Raises:
            BatchproofError: the state is another one for them.
        """
        if leaves_of(plan) != leaves_of(self.state_plan):
            raise BatchproofError("mismatched states: for samples of another shape there, the state is another one")
        found = variant_of(plan.with_centres(self.state_plan.centres()), example)
        self.beside(found)
        self.variants[signature(example)] = found

    def flat(self, call: Batch) -> Callable[..., Any]:
        """The function, of the tensors of a batch alone."""
        return _flat(self.fn, call)

    def given(self, fn: Callable[..., Any]) -> Stream:
        """The stream with another function in place of its own, to see what that does on its state."""
        other = self.draft()
        other.fn = fn
        other.variants = {
            key: replace(variant, plan=with_function(variant.plan, _flat(fn, variant.example)))
            for key, variant in self.variants.items()
        }
        return other

    # ------------------------------------------------------------------ from rows to a state

    def settle(self) -> None:
        """Derive the plan from the rows at hand and fold them, where it is time to."""
        if self.plan is not None or self.state == "rows" or self.n < self.enough:
            return
        training_rows = self.learnable([call for _, call in self.kept()])
        try:
            plan = self.untorn(self.derived(training_rows), training_rows)
        except OwnError as own:
            self.postpone(own)
            return
        if not plan.is_constant_size and self.state == "constant":
            raise NotConstantSize(f"no state of constant size: {plan.reason}; state='auto' keeps samples instead")
        if not isinstance(plan, StatePlan):
            self.plan = plan
            return
        try:
            self.adopt(plan, training_rows, self.rows)
        except OwnError as own:
            self.postpone(own)

    def adopt(self, plan: StatePlan, training_rows: Batch, rows: Rows) -> None:
        """Fold rows, and those from before, by a plan, which from then on is ours.

        Nothing changes if one of them cannot be folded.
        """
        draft = self.draft()
        draft.plan, draft.training_rows, draft.first = plan, training_rows, self.first or one_sample(training_rows)
        draft.variants = {signature(training_rows): variant_of(plan, training_rows)}
        past = self.past
        held = past.held if past is not None else None
        own = past.own if past is not None else None
        assert not isinstance(held, GroupedState)
        assert not isinstance(own, GroupedState)
        folded: dict[int, Folded] = {}
        draft.slots, draft.rows = draft.folded(rows, folded), []
        draft.reservoir = _drawn(rows)
        if past is not None and held is not None:
            all_of_it = draft.folded(held, folded)
            mine = all_of_it if own is held else None if own is None else draft.folded(own, folded)
            draft.past = Past(all_of_it, mine, past.clock, past.owned, _drawn(held).sample)
        draft.fast = None  # that of the plan before
        self.become(draft)

    def folded(self, rows: Rows, known: dict[int, Folded] | None = None) -> GroupedState:
        """Kept samples as a state; what was folded already is known by the identity of its batch."""
        assert self.training_rows is not None
        known = {} if known is None else known
        with torch.inference_mode(False), torch.no_grad():
            slots = GroupedState.empty(self.state_plan, self.training_rows.columns[0].device)
            for group, call in rows:
                if id(call) not in known:
                    known[id(call)] = self.variant(call).fold(call)
                slots.add(group % slots.groups, *known[id(call)])
        return slots

    @property
    def state_plan(self) -> StatePlan:
        """The plan that samples are folded by; there must be one."""
        assert isinstance(self.plan, StatePlan)
        return self.plan

    def learnable(self, calls: Sequence[Batch]) -> Batch:
        """The rows to derive from: a few, of the shape that most rows have."""
        return _few(join(by_shape(calls)[0]))

    def derived(self, training_rows: Batch) -> Plan:
        """A plan for the function, from a few rows."""
        if not training_rows.all_tensors():
            return noted(_foreign_plan(training_rows), self.fn, training_rows)
        tensors, dims = tensors_of(training_rows)
        with torch.inference_mode(False), quiet(self.fn), no_autocast(tensors[0]):
            own = [t.clone() if t.is_inference() else t for t in tensors]
            plan = _derived(self.flat(training_rows), own, dims, self.differentiated)
        return noted(plan, self.fn, training_rows)

    def untorn(self, plan: Plan, training_rows: Batch) -> Plan:
        """The plan, or one that keeps samples where the batches so far do not hold whole groups of them."""
        if all(call.n % plan.group == 0 for _, call in self.kept()):
            return plan
        reason = f"it takes whole groups of {plan.group} samples, and a batch tore one apart"
        return noted(keep_inputs(TensorBatch(*_columns(training_rows)), reason), self.fn, training_rows)

    def planned(self) -> Plan:
        """The plan, derived now from the samples at hand if it has not been yet."""
        if self.plan is not None:
            return self.plan
        if self.n == 0:
            raise BatchproofError("no plan yet: it is derived from the first samples; call update first")
        training_rows = self.learnable([call for _, call in self.kept()])
        if self.state == "rows":
            plan = keep_inputs(TensorBatch(*_columns(training_rows)), "state='rows' was asked for")
            return noted(plan, self.fn, training_rows)
        try:
            return self.untorn(self.derived(training_rows), training_rows)
        except OwnError as own:
            error = own.__cause__
            return keep_inputs(
                TensorBatch(*_columns(training_rows)),
                f"it raises on the samples so far ({type(error).__name__}: {error})",
            )

    # ------------------------------------------------------------------ what is held

    def kept(self) -> Rows:
        """All samples, where they are kept."""
        held = self.past.held if self.past is not None else []
        assert isinstance(held, list)
        return [*held, *self.rows]

    def parts(self) -> Part:
        """All that is held, to be read: our updates, and what came from elsewhere."""
        if self.n == 0:
            raise BatchproofError("compute before any data: no batch has been folded in yet; call update first")
        if self.past is None:
            return self.since
        return both(self.past.held, self.since)  # type: ignore[no-any-return]

    def sample(self) -> Sample:
        """A few of all samples."""
        past = self.past.sample if self.past is not None else NOTHING
        return mixed([past, self.reservoir.sample]) if past.n else self.reservoir.sample

    def origin(self, name: bool = True) -> Origin:
        """Whose samples these are.

        Args:
            name: whether our log is to be named, if it has no name yet.
        """
        if name and (not self.log or self.process != os.getpid()):  # a forked process writes a log of its own
            self.log, self.process = uuid.uuid4().hex, os.getpid()
        clock: Clock = self.past.clock if self.past is not None else {}
        owned: Clock = self.past.owned if self.past is not None else {}
        start = clock.get(self.log, 0)
        stop = start + size(self.since)
        if self.log and stop > start:
            owned = owned | {self.log: stop}
        return Origin(clock, owned, self.forgotten, self.log, start, stop)

    def sealed(self) -> Past | None:
        """All that is held, as a past; None where that is nothing. Later updates do not change it."""
        if self.n == 0:
            return None
        origin, past = self.origin(), self.past
        if past is None:
            alone = both(self.since, None)
            return Past(alone, alone, origin.held, origin.owned, self.sample())
        own = both(past.own, self.since) if past.own is not None else None
        owned = origin.owned if own is not None else {}
        return Past(both(past.held, self.since), own, origin.held, owned, self.sample())

    def seal(self, past: Past | None) -> None:
        """Go on from a past; updates from now on are held beside it."""
        if self.slots is not None:
            self.slots = GroupedState.empty(self.slots.plan, self.slots.device)
        if past is not None and past.own is None:
            self.log = ""  # what we wrote before is no longer known to be ours
        self.past, self.rows, self.reservoir = past, [], Reservoir()

    # ------------------------------------------------------------------ a value comes out

    def compute(self) -> Any:
        """The function's value on all samples.

        Raises:
            BatchproofError: there are none, or the function goes another way on all of them than on the batches.
        """
        parts = self.parts()
        if isinstance(parts, GroupedState):
            value = self.value(parts, parts.filled())
            self.recheck()
            return value
        return self.value_on([call for _, call in parts])

    def recheck(self) -> None:
        """Hold the plan against the function on a few samples of the whole stream, where there are new ones.

        Raises:
            Contradicted: they differ.
        """
        assert self.training_rows is not None
        drawn = self.past, self.reservoir, self.reservoir.changes
        known = all(now is then for now, then in zip(drawn, self.rechecked or (), strict=False)) and self.rechecked
        if not known and self.n > self.training_rows.n:
            recheck(self.fn, self.variants, self.sample())
            self.rechecked = drawn

    def value_on(self, calls: Sequence[Batch]) -> Any:
        """The function's value on kept samples."""
        args, kwargs = rebuild(calls[0].layout, [_own(leaf) for leaf in join(calls).leaves])
        with torch.enable_grad(), quiet(self.fn):  # a loss may take gradients of its own
            value = self.fn(*args, **kwargs)
        return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, value)

    def value(self, slots: GroupedState, groups: Sequence[int]) -> Any:
        """The function's value on the samples of some groups."""
        return self.value_of(*slots.merged(groups))

    def value_of(self, leaves: Sequence[torch.Tensor], lengths: list[int], n: int, wide: bool = False) -> Any:
        """The function's value on a merged state; ``wide``: in float64, whatever the function returns."""
        for variant in self.variants.values():
            self.unchanged(variant)
            self.beside(variant)  # it may have come with a plan that was taken over
        plans = [variant.plan for variant in self.variants.values()]
        results, runs = self.finished(leaves, lengths, n)
        if len(plans) > 1:
            check_finishes(plans, runs, results)
            if any(isinstance(leaf, float) for leaf in pytree.tree_leaves(results)):  # made by Python: not in the runs
                check_finishes(plans, *self.finished(nudge_state(leaves), lengths, n)[::-1])
        return results[0] if wide else typed(results[0], plans[0])

    def finished(self, leaves: Sequence[torch.Tensor], lengths: list[int], n: int) -> tuple[list[Any], list[Finisher]]:
        """The value on a merged state for samples of each shape, and how it came to be."""
        results, runs = [], []
        for variant in self.variants.values():
            tensors, dims = tensors_of(variant.example)
            with torch.inference_mode(False), quiet(self.fn), no_autocast(tensors[0]):
                result, run = variant.plan.finished(State(list(leaves), lengths, n), tensors, dims, n)
            results.append(result)
            runs.append(run)
        return results, runs

    def check_function(self, slots: GroupedState) -> None:
        """Run the function itself on a state: it must do there what was folded.

        Raises:
            Diverged: it does something else, with other numbers or other weights.
        """
        if slots.n and not any(isinstance(variant.plan.fn, Loop) for variant in self.variants.values()):
            leaves, lengths, n = slots.merged(slots.filled())
            self.finished(leaves, lengths, n)

    def unchanged(self, variant: Variant) -> None:
        """Refuse to go on where a tensor from outside the arguments has changed since the first batch."""
        for now, then, writes in variant.used:
            if tensors.version(now) != writes or not _alike(now, then):
                raise Diverged(
                    f"a tensor of shape {tuple(now.shape)} that the function takes from outside its arguments has "
                    "changed since the first batch; pass it as an argument, or use state='rows'"
                )


def _derived(
    fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Sequence[int | None], differentiated: bool
) -> Plan:
    """A plan for samples; where there is none of constant size, for groups of them that belong together."""
    try:
        plan = derive(fn, tensors, dims, differentiated)
    except OwnError:  # the few samples tear a group apart
        groups = None if differentiated else derive_groups(fn, tensors, dims)
        if groups is None:
            raise
        return groups
    if plan.is_constant_size or differentiated:
        return plan
    return derive_groups(fn, tensors, dims) or plan


def leaves_of(plan: StatePlan) -> list[Any]:
    """What two states must have in common to be merged."""
    return [(leaf.merge, tuple(leaf.shape), str(leaf.dtype), leaf.points) for leaf in plan.leaves]


def blank(call: Batch) -> Batch:
    """A sample without what it holds: its shape, its dtypes, and the arguments that no sample is in."""
    pairs = zip(call.leaves, call.layout.dims, strict=True)
    hidden = [
        leaf if d is None or not isinstance(leaf, torch.Tensor) else torch.zeros_like(leaf.narrow(d, 0, 1))
        for leaf, d in pairs
    ]
    return Batch(call.layout, hidden, 1)


def _few(call: Batch) -> Batch:
    """As many rows as are worth looking at: no more are held for good."""
    if not call.all_tensors():
        return call
    tensors, dims = tensors_of(call)
    batch = few(TensorBatch(tensors, dims))
    if batch.n >= call.n:
        return call
    remaining = iter(batch.tensors)
    leaves = [next(remaining) if isinstance(leaf, torch.Tensor) else leaf for leaf in call.leaves]
    return Batch(call.layout, leaves, batch.n)


def _drawn(rows: Rows) -> Reservoir:
    """A few of kept samples."""
    reservoir = Reservoir()
    for _, call in rows:
        reservoir.take(call)
    return reservoir


def _own(leaf: Any) -> Any:
    """A function may write into its arguments: it gets its own."""
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _alike(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return tensors.same(a, b)
    try:
        return bool(a == b)
    except (ValueError, RuntimeError):
        import numpy

        return bool(numpy.array_equal(a, b))


def _flat(fn: Callable[..., Any], call: Batch) -> Callable[..., Any]:
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


def _columns(call: Batch) -> tuple[list[torch.Tensor], tuple[int | None, ...]]:
    """What a kept sample weighs, as tensors."""
    tensors, dims = tensors_of(call)
    return (tensors, dims) if any(dim is not None for dim in dims) else ([torch.zeros(call.n)], (0,))


def _foreign_plan(call: Batch) -> Plan:
    return keep_inputs(TensorBatch(*_columns(call)), "its arguments are not torch tensors, so it cannot be recorded")


def typed(result: Any, plan: StatePlan) -> Any:
    """A result in the types that the function returns: those of the first batch, where it goes the same way now."""
    flat, tree = pytree.tree_flatten(result)
    dtypes = plan.dtypes if len(plan.dtypes) == len(flat) else [None] * len(flat)
    return pytree.tree_unflatten(
        [_typed(leaf, dtype, plan.shown) for leaf, dtype in zip(flat, dtypes, strict=True)], tree
    )


def _typed(leaf: Any, dtype: Any, shown: torch.dtype | None) -> Any:
    """A tensor in a type of its own category; otherwise, of floating ones, in that which the function believes in."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if isinstance(dtype, torch.dtype) and _category(leaf.dtype) is _category(dtype):
        return leaf.to(dtype)
    return leaf.to(shown) if shown is not None and leaf.dtype is WIDE[shown] else leaf


def _category(dtype: torch.dtype) -> type:
    if dtype.is_complex:
        return complex
    return float if dtype.is_floating_point else bool if dtype is torch.bool else int
