"""Merge two streams, save one and load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from batchproof.derive import Diverged, StatePlan, of_bytes
from batchproof.errors import BatchproofError
from batchproof.ground.batch import Batch, Layout, bound, copied, rebuild, samples_in, signature
from batchproof.metric.fingerprints import centres_print, program_print, same_function, shared_print
from batchproof.metric.grouped_state import GroupedState
from batchproof.metric.origin import Part, Past, Rows, both, renamed
from batchproof.metric.reservoir import NOTHING, mixed, packed, unpacked
from batchproof.metric.stream import Stream, blank, leaves_of


def merge(stream: Stream, other: Stream) -> None:
    """Take in what another stream of the same function holds; the other stays as it is.

    Raises:
        BatchproofError: it is another function's, or holds another state. Ours may have changed then: give a draft.
    """
    if other.n == 0:
        return
    if not same_function(stream.fn, other.fn):
        raise BatchproofError("mismatched states: the two metrics are of different functions")
    assert other.first is not None
    stream.check(other.first)
    theirs = other.sealed()
    assert theirs is not None
    if isinstance(theirs.held, GroupedState):
        _take_plan(stream, other)
        theirs = _parts_by(theirs, lambda part: moved(stream, part, other))
        stream.meet(other.shapes())
    else:
        for _, call in theirs.held:
            stream.check(call)
        if stream.slots is not None:
            known: dict[int, Any] = {}
            theirs = _parts_by(theirs, lambda part: stream.folded(part, known))
    ours = stream.sealed()
    stream.seal(theirs if ours is None else _together(ours, renamed(theirs, ours.clock)))
    stream.first = stream.first or other.first
    stream.settle()


def _parts_by(past: Past, change: Callable[[Any], Part]) -> Past:
    held = change(past.held)
    return replace(
        past, held=held, own=held if past.own is past.held else None if past.own is None else change(past.own)
    )


def _together(ours: Past, theirs: Past) -> Past:
    own = both(ours.own, theirs.own) if ours.own is not None and theirs.own is not None else None
    owned = ours.owned | theirs.owned if own is not None else {}
    sample = mixed([ours.sample, theirs.sample])
    return Past(both(ours.held, theirs.held), own, ours.clock | theirs.clock, owned, sample)


def _take_plan(stream: Stream, other: Stream) -> None:
    """Fold by another stream's plan, if we have none yet."""
    if stream.slots is not None:
        return
    if stream.state == "rows":
        raise BatchproofError("mismatched states: this metric was told to keep samples; the other has folded them")
    assert other.training_rows is not None
    stream.adopt(other.state_plan, other.training_rows, stream.rows)


def moved(stream: Stream, theirs: GroupedState, other: Stream) -> GroupedState:
    """Another stream's state, its sums at our centres.

    Raises:
        BatchproofError: it holds something else.
    """
    plan, source = stream.state_plan, other.state_plan
    if leaves_of(plan) != leaves_of(source):
        raise BatchproofError(
            "mismatched states: the two metrics hold different leaves "
            f"({_shown(plan)} here, {_shown(source)} there): they belong to different functions or shapes"
        )
    if shared_print(stream) != shared_print(other):
        raise BatchproofError("mismatched states: the functions hold other weights, or took other shared arguments")
    if program_print(plan) != program_print(source) and not _does_the_same(stream, other, theirs):
        raise BatchproofError(
            "mismatched states: the functions do the same operations with other numbers (a threshold, an exponent)"
        )
    return recentred(plan, theirs, source)


def recentred(plan: StatePlan, theirs: GroupedState, source: StatePlan) -> GroupedState:
    """A state kept at the centres of one plan, at those of another one of the same leaves."""
    if centres_print(plan) == centres_print(source):
        return GroupedState(plan, theirs.groups, theirs.device, list(theirs.cells))
    leaves = plan.recentre(theirs.leaves, source)
    return GroupedState.of(plan, theirs.device, leaves, theirs.counts, theirs.lengths)


def _does_the_same(stream: Stream, other: Stream, theirs: GroupedState) -> bool:
    """Whether our function does on their state what theirs does; where theirs has no value there, none is known."""
    try:
        other.check_function(theirs)
    except Diverged:
        return True
    try:
        other.given(stream.fn).check_function(theirs)
    except Diverged:
        return False
    return True


def _shown(plan: StatePlan) -> str:
    return ", ".join(f"{leaf.merge} {tuple(leaf.shape)}" for leaf in plan.leaves)


# ------------------------------------------------------------------ save and load


def save(stream: Stream, *, with_samples: bool = False) -> dict[str, Any]:
    """The state as plain containers of tensors: all samples and our own, and whose they are.

    Args:
        stream: to be saved.
        with_samples: whether the few samples go with it that a folded state is tried on. They stay in this process.
    """
    saved: dict[str, Any] = {"updates": stream.updates, "n": stream.n, "forgotten": sorted(stream.forgotten)}
    first = stream.first
    folded = stream.slots is not None
    saved["layout"] = None if first is None else first.layout.described()
    if first is not None and not folded:
        saved["first"] = _leaves(first)
    past = stream.sealed()
    if past is not None:
        saved["clock"], saved["owned"] = dict(past.clock), dict(past.owned)
        sample = past.sample if with_samples else NOTHING
        saved["sample"], saved["sampled"] = [_leaves(call) for call in packed(sample)], sample.n
        saved["own"] = "all" if past.own is past.held else _saved_part(past.own, past.held)
    held = past.held if past is not None else stream.since
    if folded:
        assert isinstance(held, GroupedState)
        saved |= _saved_plan(stream, first, with_samples) | {"tried": _is_tried(stream, held)}
    return saved | (_saved_slots(held) if isinstance(held, GroupedState) else {"rows": _saved_rows(held)})


def save_plan(stream: Stream) -> dict[str, Any]:
    """The plan of a stream that folds, in plain containers, without what it has seen."""
    assert stream.first is not None
    return {"layout": stream.first.layout.described(), **_saved_plan(stream, stream.first, with_samples=False)}


def load_plan(stream: Stream, saved: dict[str, Any]) -> Stream:
    """A stream of a saved plan that has seen nothing, in place of another one of the same function."""
    fresh, relayout = stream.emptied(), _in_layout(saved)
    fresh.first = relayout(saved["first"])
    _fits(stream, fresh.first)
    _learn(fresh, saved, relayout)
    return fresh


def _in_layout(saved: dict[str, Any]) -> Callable[[list[Any]], Batch]:
    """What makes a batch of saved leaves, in the layout that was saved with them; nothing has one before any data."""
    layout = None if saved["layout"] is None else Layout.of(saved["layout"])

    def relayout(leaves: list[Any]) -> Batch:
        assert layout is not None
        return Batch(layout, [copied(leaf) for leaf in leaves], samples_in(leaves, layout.dims))

    return relayout


def _saved_plan(stream: Stream, first: Batch | None, with_samples: bool) -> dict[str, Any]:
    """The plan for each shape of samples, the one that was derived before the others; a blank is saved once."""
    assert stream.training_rows is not None
    assert first is not None
    shapes = [(call, plan) for call, plan in stream.shapes() if plan is not None]
    blanks = [_leaves(call) for call, _ in shapes]
    same = signature(first) == signature(shapes[0][0])
    return {
        "first": blanks[0] if same else _leaves(blank(first)),
        "lesson": _leaves(stream.training_rows) if with_samples else blanks[0],
        "shapes": blanks,
        "plans": [torch.frombuffer(bytearray(plan), dtype=torch.uint8) for _, plan in shapes],
    }


def _is_tried(stream: Stream, held: GroupedState) -> bool:
    """Whether the function has a value on the state: then the one that loads it must have one there, too."""
    try:
        stream.check_function(held)
    except Exception:  # noqa: BLE001 - whatever the function raises on its own state, compute says
        return False
    return True


def _leaves(call: Batch) -> list[Any]:
    return [_copied(leaf) for leaf in call.leaves]


def _saved_part(part: Part | None, held: Part) -> Any:
    """Our own part; of kept samples, which of all they are."""
    if part is None:
        return None
    if isinstance(part, GroupedState):
        assert isinstance(held, GroupedState)
        places = {
            id(chunk): place for kept in held.leaves if isinstance(kept, list) for place, (_, chunk) in enumerate(kept)
        }
        return _saved_slots(part, places)
    assert isinstance(held, list)
    rows = {id(call): place for place, (_, call) in enumerate(held)}
    return [rows[id(call)] for _, call in part]


def _saved_slots(slots: GroupedState, places: dict[int, int] | None = None) -> dict[str, Any]:
    """Stacked leaves, which are copies already; kept rows are copied unless they have a place in what is saved."""
    known = places or {}
    leaves = [
        [(group, known.get(id(chunk), chunk.clone())) for group, chunk in kept] if isinstance(kept, list) else kept
        for kept in slots.leaves
    ]
    return {"leaves": leaves, "counts": slots.counts, "lengths": [list(row) for row in slots.lengths]}


def _saved_rows(rows: Rows) -> list[Any]:
    return [(group, [_copied(leaf) for leaf in call.leaves], call.n) for group, call in rows]


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def load(stream: Stream, saved: dict[str, Any]) -> Stream:
    """A stream that goes on from a saved state, in place of another one.

    Args:
        stream: of the same function.
        saved: from `save`.

    Raises:
        BatchproofError: the state belongs to another function.
    """
    fresh, relayout = stream.emptied(), _in_layout(saved)
    fresh.forgotten = (fresh.forgotten | set(saved.get("forgotten", ()))) - set(saved.get("owned", ()))
    if "first" in saved:
        fresh.first = relayout(saved["first"])
        _fits(stream, fresh.first)
    fresh.updates = saved["updates"]
    if "leaves" in saved:
        _learn(fresh, saved, relayout)
        assert fresh.slots is not None
        all_of_it = _loaded_slots(fresh.slots, saved)
        if saved["tried"]:
            _try(fresh, all_of_it)
        held: Part = all_of_it
        mine = saved["own"]
        own: Part | None = held if mine == "all" else None
        if isinstance(mine, dict):
            own = _loaded_slots(fresh.slots, mine, all_of_it.leaves)
    else:
        held = [(group, relayout(leaves)) for group, leaves, _ in saved["rows"]]
        mine = saved.get("own")
        own = held if mine == "all" else None if mine is None else [held[place] for place in mine]
    if saved["n"]:
        sample = unpacked([relayout(leaves) for leaves in saved["sample"]], saved["sampled"])
        fresh.past = Past(held, own, dict(saved["clock"]), dict(saved["owned"]), sample)
    return fresh


def _fits(stream: Stream, call: Batch) -> None:
    try:
        args, kwargs = rebuild(call.layout, call.leaves)
        bound(stream.fn, args, kwargs)
    except TypeError as error:
        raise BatchproofError(f"the saved state does not fit: it belongs to another function ({error})") from None


def _learn(fresh: Stream, saved: dict[str, Any], relayout: Callable[[list[Any]], Batch]) -> None:
    """Take the plans over, one for each shape that samples came in. Nothing is derived."""
    examples = [relayout(leaves) for leaves in saved["shapes"]]
    plans = [
        of_bytes(data.cpu().numpy().tobytes(), fresh.flat(example), example.columns[0].device)
        for data, example in zip(saved["plans"], examples, strict=True)
    ]
    fresh.adopt(plans[0], relayout(saved["lesson"]), [])
    for plan, example in zip(plans[1:], examples[1:], strict=True):
        fresh.add(plan, example)


def _try(fresh: Stream, held: GroupedState) -> None:
    """Run the function on the state that was loaded for it."""
    try:
        fresh.check_function(held)
    except Diverged as error:
        raise BatchproofError(
            "the saved state does not fit: it belongs to another function, or to one whose numbers (a threshold, an "
            f"exponent, a unit) or other weights were others ({error})"
        ) from None


def _loaded_slots(like_these: GroupedState, saved: dict[str, Any], held: list[Any] | None = None) -> GroupedState:
    """A saved state; ``held`` are the leaves among which some of its kept rows have their place."""
    leaves: list[Any] = []
    for position, kept in enumerate(saved["leaves"]):
        if isinstance(kept, torch.Tensor):
            leaves.append(kept.clone())
            continue
        leaves.append(
            [(group, held[position][x][1] if held and isinstance(x, int) else x.clone()) for group, x in kept]
        )
    return GroupedState.of(like_these.plan, like_these.device, leaves, saved["counts"], saved["lengths"])
