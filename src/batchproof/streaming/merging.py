"""Merge two streams, save one and load it."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from batchproof.derive.centre import Centred
from batchproof.derive.plan import Plan
from batchproof.errors import BatchproofError
from batchproof.streaming.arguments import Call, bound, rebuild
from batchproof.streaming.modules import held_by
from batchproof.streaming.state import Slots, merge_into
from batchproof.streaming.stream import Stream


def fingerprint(stream: Stream) -> str:
    """Two streams with the same print hold the same leaves at the same centres."""
    assert stream.plan is not None
    digest = hashlib.sha256(repr(structure(stream.plan)).encode())
    for index, parts in sorted(stream.plan.centred.items()):
        for at in parts.centres:
            digest.update(repr((index, sorted(at.free.items()))).encode())
            for _, stat in sorted(at.stats.items()):
                digest.update(stat.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def same_function(a: Any, b: Any) -> bool:
    """Whether two callables run the same code on the same held values, as far as can be told."""
    if a is b:
        return True
    if isinstance(a, torch.nn.Module) or isinstance(b, torch.nn.Module):
        return type(a) is type(b) and _alike(list(a.state_dict().items()), list(b.state_dict().items()))
    codes = getattr(a, "__code__", None), getattr(b, "__code__", None)
    if any(codes):
        return codes[0] == codes[1] and _alike(held_by(a), held_by(b))
    if hasattr(a, "func") and hasattr(b, "func"):
        return same_function(a.func, b.func) and _alike(held_by(a)[1:], held_by(b)[1:])
    return type(a) is type(b) and getattr(a, "__name__", None) == getattr(b, "__name__", None)


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    if callable(a) and callable(b):
        return same_function(a, b)
    return not isinstance(a, (int, float, str)) or a == b


def constants(stream: Stream) -> str:
    """A print of the tensors that a function takes from outside its samples: states merge only where these agree."""
    digest = hashlib.sha256()
    if stream.plan is not None and stream.plan.program is not None:
        for index, tensor in sorted(stream.plan.program.captured.items()):
            digest.update(
                repr((index, str(tensor.dtype), tuple(tensor.shape), tensor.detach().cpu().tolist())).encode()
            )
    if stream.first is not None:
        for leaf, dim in zip(stream.first.leaves, stream.first.layout.dims, strict=True):
            if dim is None:
                shown = leaf.detach().cpu().tolist() if isinstance(leaf, torch.Tensor) else leaf
                digest.update(repr(shown).encode())
    return digest.hexdigest()


def structure(plan: Plan) -> list[Any]:
    """What two plans must share for their states to mean the same."""
    assert plan.program is not None
    names = [op.name for op in plan.program.ops]
    leaves = [(leaf.merge, tuple(leaf.shape), str(leaf.dtype), leaf.points) for leaf in plan.leaves]
    return [names, leaves, plan.kept]


def merge(stream: Stream, other: Stream) -> None:
    """Take in what another stream of the same function holds; the other stays as it is.

    Raises:
        BatchproofError: it is another function's, or holds another state; ours stays as it was.
    """
    if other.n == 0:
        return
    if not same_function(stream.fn, other.fn):
        raise BatchproofError("mismatched states: the two metrics are of different functions")
    if other.first is not None:
        stream.check(other.first)
    theirs = other.parts()
    if isinstance(theirs, list):
        trial = [call for _, call in theirs]
        for call in trial:
            stream.check(call)
        before = snapshot(stream)
        try:
            for call in trial:
                stream.fold(call)
        except BaseException:
            stream.__dict__.update(before)
            raise
        return
    if stream.slots is None:
        _compatible(stream, other)
        assert other.plan is not None
        assert other.lesson is not None
        if other.first is not None:
            stream.check(other.first)
        stream.adopt(other.plan, other.lesson, stream.rows)
    before = snapshot(stream)
    try:
        merge_slots(stream, theirs, other)
    except BaseException:
        stream.__dict__.update(before)
        raise
    stream.updates += other.updates


def _compatible(stream: Stream, other: Stream) -> None:
    if stream.plan is not None and stream.plan.keeps_inputs:
        raise BatchproofError("mismatched states: this metric keeps samples and the other holds a folded state")
    if stream.state == "rows":
        raise BatchproofError("mismatched states: this metric was told to keep samples; the other has folded them")


def merge_slots(stream: Stream, theirs: Slots, other: Stream) -> None:
    """Add another stream's state, its sums moved to our centres."""
    mine, plan = stream.slots, stream.plan
    assert mine is not None
    assert plan is not None
    assert other.plan is not None
    if structure(plan) != structure(other.plan):
        raise BatchproofError(
            "mismatched states: the two metrics hold different leaves "
            f"({_shown(plan)} here, {_shown(other.plan)} there): they belong to different functions or shapes"
        )
    if constants(stream) != constants(other):
        raise BatchproofError("mismatched states: the functions hold other weights, or took other shared arguments")
    if fingerprint(stream) != fingerprint(other):
        theirs = theirs.clone()
        shared = _shared(other.plan)
        for position, index in enumerate(plan.kept):
            source = other.plan.centred.get(index)
            if isinstance(source, Centred):
                moved = [
                    plan.move(index, theirs.leaves[position][group], source, shared) for group in range(theirs.groups)
                ]
                theirs.leaves[position] = torch.stack(moved)
    for key, variant in other.variants.items():
        stream.variants.setdefault(key, variant)
    mine.absorb(theirs)


def _shared(plan: Plan) -> dict[int, torch.Tensor]:
    return plan.constants


def _shown(plan: Plan) -> str:
    return ", ".join(f"{leaf.merge} {tuple(leaf.shape)}" for leaf in plan.leaves)


def snapshot(stream: Stream) -> dict[str, Any]:
    """The stream's fields, the state itself copied."""
    fields = dict(stream.__dict__)
    fields["rows"] = list(stream.rows)
    fields["variants"] = dict(stream.variants)
    fields["slots"] = stream.slots.clone() if stream.slots is not None else None
    return fields


def save(stream: Stream) -> dict[str, Any]:
    """The state as plain containers of tensors. It includes the few rows that the plan was derived from."""
    saved: dict[str, Any] = {"updates": stream.updates, "n": stream.n}
    if stream.first is not None:
        saved["first"] = list(stream.first.leaves)
    if stream.slots is not None:
        total = stream.parts()
        assert isinstance(total, Slots)
        assert stream.lesson is not None
        saved["lesson"] = [_copied(leaf) for leaf in stream.lesson.leaves]
        saved["fingerprint"] = fingerprint(stream)
        saved["constants"] = constants(stream)
        saved["shapes"] = [list(variant.example.leaves) for variant in stream.variants.values()]
        saved["leaves"] = [list(kept) if isinstance(kept, list) else kept.clone() for kept in total.leaves]
        saved["counts"], saved["lengths"] = list(total.counts), [list(row) for row in total.lengths]
    else:
        rows = [] if stream.n == 0 else stream.parts()
        assert isinstance(rows, list)
        saved["rows"] = [(group, [_copied(leaf) for leaf in call.leaves], call.n) for group, call in rows]
    return saved


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _fits(stream: Stream, call: Call) -> None:
    try:
        args, kwargs = rebuild(call.layout, call.leaves)
        bound(stream.fn, args, kwargs)
    except TypeError as error:
        raise BatchproofError(f"the saved state does not fit: it belongs to another function ({error})") from None


def load(stream: Stream, saved: dict[str, Any], relayout: Any) -> None:
    """Put a saved state in place of the stream's.

    Args:
        stream: of the same function.
        saved: from `save`.
        relayout: makes a `Call` of saved leaves.

    Raises:
        BatchproofError: the state belongs to another function; ours stays as it was.
    """
    fresh = Stream(stream.fn, stream.state, stream.warmup)
    for _, leaves, _ in saved.get("rows", [])[:1]:
        _fits(stream, relayout(leaves))
    if "leaves" in saved:
        lesson: Call = relayout(saved["lesson"])
        _fits(stream, lesson)
        fresh.adopt(fresh.derived(lesson), lesson, [])
        slots = fresh.slots
        assert slots is not None
        if constants(fresh) != saved["constants"]:
            raise BatchproofError("the saved state does not fit: its function held other weights or shared arguments")
        same = fingerprint(fresh) == saved["fingerprint"] and all(
            isinstance(mine, list) or mine.shape == theirs.shape
            for mine, theirs in zip(slots.leaves, saved["leaves"], strict=True)
        )
        if not same:
            raise BatchproofError(
                "the saved state does not fit: it belongs to another function, or was saved by another version of torch"
            )
        for leaf, mine, theirs in zip(slots.plan.leaves, slots.leaves, saved["leaves"], strict=True):
            if leaf.merge == "rows":
                mine.extend(theirs)
                continue
            for group in range(slots.groups):
                merge_into(leaf, mine[group], theirs[group])
        slots.counts, slots.lengths = list(saved["counts"]), [list(row) for row in saved["lengths"]]
        for leaves in saved["shapes"]:
            fresh.variant(relayout(leaves))
    else:
        fresh.rows = [(group, relayout(leaves)) for group, leaves, _ in saved["rows"]]
    if "first" in saved:
        fresh.first = relayout(saved["first"])
    fresh.updates = saved["updates"]
    stream.__dict__.update(fresh.__dict__)
