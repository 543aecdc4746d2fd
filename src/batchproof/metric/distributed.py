"""Merge a stream over the processes of a group: one collective per kind of merge, everything packed.

Every rank must fold by the same plan. The first rank that has one sends it; the others take it over, so that centres
agree, and fold what they still hold as samples. Before each step the ranks tell each other
whether they are ready for it: what one cannot do is refused on all, and none is left waiting.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from batchproof.derive import ROWS, SUM, of_bytes
from batchproof.errors import BatchproofError
from batchproof.ground.batch import Batch, signature
from batchproof.metric.fingerprints import centres_print, program_print, shared_print
from batchproof.metric.grouped_state import GROUPS, GroupedState
from batchproof.metric.merging import recentred
from batchproof.metric.origin import Clock, Origin, Part, Past, Rows, Share, shares, size
from batchproof.metric.reservoir import NOTHING, Sample, mixed, packed, unpacked
from batchproof.metric.stream import Shape, Stream, leaves_of

T = TypeVar("T")


@dataclass
class Header:
    """What a rank says of itself before anything is merged.

    Attributes:
        origin: whose samples it has.
        first: one of its samples, on the CPU; None where it has seen none.
        device: the kind of device where its samples are.
        plan: prints of the plan that it folds by, None where it keeps samples.
        shapes: those that its samples came in, on the CPU.
        empty: whether it has nothing to give.
        told: what else the ranks are to know of each other.
    """

    origin: Origin
    first: Batch | None
    device: str
    plan: tuple[str, str, str] | None
    shapes: list[Shape]
    empty: bool
    told: Any


def sync(stream: Stream, group: Any = None, told: Any = None, n_samples: int | None = None) -> list[Any]:
    """Make every rank's stream hold all ranks' samples. What was synced before is not counted twice.

    Args:
        stream: changed at the end, in one step.
        group: of processes.
        told: something that all ranks are to get from each.
        n_samples: how many samples there must be in all; None where that is not known.

    Returns:
        What each rank told.

    Raises:
        BatchproofError: on every rank, where one cannot go on.
    """
    _need_group()
    headers: list[Header] = _agreed(lambda: _header(stream, told), group)
    _same_kind_of_batch([header.first for header in headers])
    share = shares([header.origin for header in headers])
    mine = _given(stream, share[dist.get_rank(group)])  # None is nothing, of whatever kind
    draft = stream.draft()
    draft.first = stream.first or _first(headers)
    if all(header.plan is None for header in headers):
        mine = mine or []
        held: Part = _gather_rows(mine, _device_of(draft.first), group)
    else:
        mine = _by_one_plan(draft, mine, headers, group)
        _meet_all(draft, headers, group)
        held = reduce(mine, group)
    _check_number(held, n_samples)
    own = None if "held" in share else mine
    clock = _latest([header.origin.held if own is None else header.origin.owned for header in headers])
    owned = {} if own is None else {log: n for log, n in stream.origin().owned.items() if n}
    sample = _gather_sample(stream, headers, held, group)
    draft.forgotten = frozenset()
    draft.seal(Past(held, own, clock, owned, sample))
    stream.become(draft)
    return [header.told for header in headers]


def _need_group() -> None:
    if not (dist.is_available() and dist.is_initialized()):
        raise BatchproofError("sync needs a process group: call torch.distributed.init_process_group first")


def told(thing: Any, group: Any = None) -> list[Any]:
    """What each rank has to say, by rank.

    Raises:
        BatchproofError: no process group is initialised.
    """
    _need_group()
    return _agreed(lambda: thing, group)


def _agreed(work: Callable[[], T], group: Any) -> list[T]:
    """What each rank made; an error on one of them, in making or in sending it, is raised on all."""
    sent, failure, reason = b"", None, None
    try:
        sent = pickle.dumps(work())
    except Exception as error:  # noqa: BLE001 - the others wait for us
        failure, reason = error, f"{type(error).__name__}: {error}"
    said: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(said, (reason, sent), group=group)
    if isinstance(failure, BatchproofError):
        raise failure
    for rank, (why, _) in enumerate(said):
        if why is not None:
            raise BatchproofError(f"sync failed on rank {rank}, and so on all: {why}") from failure
    return [pickle.loads(one) for _, one in said]


def _header(stream: Stream, told: Any) -> Header:
    first = stream.first
    device = next((leaf.device.type for leaf in first.columns if isinstance(leaf, torch.Tensor)), "") if first else ""
    plan = None
    if stream.slots is not None:
        folding = stream.state_plan
        plan = program_print(folding), shared_print(stream), centres_print(folding)
    shapes = [(on_cpu(call), plan) for call, plan in stream.shapes()]
    return Header(stream.origin(), None if first is None else on_cpu(first), device, plan, shapes, stream.n == 0, told)


def _same_kind_of_batch(firsts: list[Batch | None]) -> None:
    """Refuse where the ranks' batches have other dtypes or structures."""
    known = [
        [str(leaf.dtype) if isinstance(leaf, torch.Tensor) else type(leaf).__name__ for leaf in first.leaves]
        for first in firsts
        if first is not None
    ]
    if any(kind != known[0] for kind in known):
        raise BatchproofError(
            f"mismatched states: one rank was fed with {', '.join(known[0])}, another with "
            f"{', '.join(next(kind for kind in known if kind != known[0]))}; convert them first"
        )


def _first(headers: list[Header]) -> Batch | None:
    """What the batches of a rank are to be like that has seen none: as those of the others."""
    header = next((header for header in headers if header.first is not None), None)
    return None if header is None or header.first is None else moved(header.first, _device_like(header.device))


def _device_like(kind: str) -> torch.device | None:
    """Our device of the kind that another rank uses."""
    if kind in ("", "cpu"):
        return torch.device("cpu")
    module: Any = getattr(torch, kind, None)
    return torch.device(kind, module.current_device()) if hasattr(module, "current_device") else torch.device(kind)


def _check_number(held: Part, expected: int | None) -> None:
    """Refuse where there are more samples than the data has, or fewer: every rank holds the same, and so all refuse."""
    if expected is None or size(held) == expected:
        return
    n, off = size(held), abs(size(held) - expected)
    if n < expected:
        raise BatchproofError(
            f"the ranks hold {n:,} samples, and there are {expected:,}: {off:,} were left out, by drop_last perhaps"
        )
    raise BatchproofError(
        f"the ranks hold {n:,} samples, and there are {expected:,}: {off:,} more, repeated by a sampler that gives "
        "every rank as many; leave them out, as batchproof.integrations.repeats does"
    )


def _given(stream: Stream, share: Share) -> Any:
    """The part of what we hold that goes into the total."""
    past = stream.past
    if share == "none":
        return None
    if share == "since" or past is None:
        return stream.since if isinstance(stream.since, GroupedState) else list(stream.since)
    sealed = stream.sealed()
    if sealed is None:
        return None
    return sealed.held if share == "held" else sealed.own


def _latest(clocks: list[Clock]) -> Clock:
    found: Clock = {}
    for clock in clocks:
        found |= {log: max(position, found.get(log, 0)) for log, position in clock.items()}
    return found


def _gather_rows(mine: Rows, device: torch.device | None, group: Any) -> Rows:
    """All ranks' samples, in the order of the ranks; our own ones are the same objects as before."""
    everything = _agreed(lambda: [(number, on_cpu(call)) for number, call in mine], group)
    rank = dist.get_rank(group)
    gathered = [
        mine if number == rank else [(place, moved(call, device)) for place, call in rows]
        for number, rows in enumerate(everything)
    ]
    calls = [entry for rows in gathered for entry in rows]
    return [((position + number) % GROUPS, call) for position, (number, call) in enumerate(calls)]


def _by_one_plan(draft: Stream, mine: Any, headers: list[Header], group: Any) -> GroupedState:
    """Our part as a state, by the plan that all ranks then have."""
    teacher = next(rank for rank, header in enumerate(headers) if header.plan is not None)
    if all(header.plan == headers[teacher].plan for header in headers):
        assert draft.slots is not None
        return mine if mine is not None else GroupedState.empty(draft.slots.plan, draft.slots.device)
    is_teacher = dist.get_rank(group) == teacher
    made: list[GroupedState] = []

    def learn() -> tuple[str, str]:
        shape = None if is_teacher else headers[teacher].shapes[0]
        made.append(_taught(draft, mine, shape, headers[teacher].device))
        draft.check_function(made[0])
        return program_print(draft.state_plan), shared_print(draft)

    prints = _agreed(learn, group)
    if any(one != prints[0] for one in prints):
        raise BatchproofError(
            "mismatched states: the ranks' functions differ, in their operations, the numbers in these, or their "
            "weights; sync takes the same function on each"
        )
    return made[0]


def _meet_all(draft: Stream, headers: list[Header], group: Any) -> None:
    """Every rank learns the shapes that samples came in on any: the value must be one for all of them, or is none."""
    met = [frozenset(signature(call) for call, _ in header.shapes) for header in headers]
    everywhere = frozenset[Any]().union(*met)
    if len(everywhere) > 1 and any(shapes != everywhere for shapes in met):  # one alone came with the plan
        device = _device_of(draft.first)
        shapes = [(moved(call, device), plan) for header in headers for call, plan in header.shapes]
        _agreed(lambda: draft.meet(shapes), group)


def _taught(draft: Stream, mine: Any, shape: Shape | None, kind: str) -> GroupedState:
    """Our part by the teacher's plan, which becomes the draft's; without one we are the teacher."""
    slots = draft.slots
    if shape is None:
        assert slots is not None
        return mine if mine is not None else GroupedState.empty(slots.plan, slots.device)
    device = slots.device if slots is not None else _device_of(draft.first)
    example, data = moved(shape[0], device if device is not None else _device_like(kind)), shape[1]
    assert data is not None
    student = Stream(draft.fn, draft.state, draft.warmup, draft.differentiated)
    student.first = draft.first
    learned = of_bytes(data, student.flat(example), example.columns[0].device)
    student.adopt(learned, example, [])
    assert student.slots is not None
    if isinstance(mine, GroupedState):
        plan = draft.state_plan
        if leaves_of(plan) != leaves_of(learned):
            raise BatchproofError(
                "mismatched states: the ranks hold different leaves; sync takes the same function on each"
            )
        mine = recentred(learned, mine, plan)
    elif mine is not None:
        mine = student.folded(mine)
    student.meet(draft.shapes())
    for name in ("plan", "training_rows", "first", "variants", "fast", "slots"):
        setattr(draft, name, getattr(student, name))
    draft.rows = []
    return mine if mine is not None else student.slots


def _device_of(call: Batch | None) -> torch.device | None:
    if call is None:
        return None
    return next((leaf.device for leaf in call.columns if isinstance(leaf, torch.Tensor)), None)


def _gather_sample(stream: Stream, headers: list[Header], held: Part, group: Any) -> Sample:
    """A few of all ranks' samples, where the state is folded: what each got since, and once what was there before."""
    if not isinstance(held, GroupedState):
        return NOTHING
    before = stream.past.sample if stream.past is not None else NOTHING

    def parts() -> list[Any]:
        return [[[on_cpu(call) for call in packed(sample)], sample.n] for sample in (before, stream.reservoir.sample)]

    gathered = _agreed(parts, group)
    samples = [unpacked([moved(call, held.device) for call in calls], n) for _, (calls, n) in gathered]
    past = max((one for one, _ in gathered), key=lambda one: one[1])
    samples.append(unpacked([moved(call, held.device) for call in past[0]], past[1]))
    return mixed(samples)


def reduce(slots: GroupedState, group: Any) -> GroupedState:
    """All ranks' leaves, merged: at most one collective for each of float sums, counts, maxima and minima."""
    leaves, device = slots.leaves, slots.device
    counts = torch.tensor([[n, *row] for n, row in zip(slots.counts, slots.lengths, strict=True)], device=device)
    wires = [(SUM.collective, counts)]
    for leaf, kept in zip(slots.plan.leaves, leaves, strict=True):
        if leaf.merge is not ROWS:
            wires += leaf.merge.to_wires(kept)
    merged = iter(_all_reduced(wires, group))
    counts = next(merged)
    for position, (leaf, kept) in enumerate(zip(slots.plan.leaves, leaves, strict=True)):
        if leaf.merge is ROWS:
            leaves[position] = _gather_chunks(kept, device, group)
        else:
            leaves[position] = leaf.merge.from_wires(kept, merged)
    table = counts.tolist()
    return GroupedState.of(slots.plan, device, leaves, [row[0] for row in table], [row[1:] for row in table])


def _all_reduced(wires: list[tuple[str, torch.Tensor]], group: Any) -> list[torch.Tensor]:
    """Tensors merged over the ranks, those of one kind in one collective."""
    packs: dict[tuple[str, torch.dtype], list[int]] = {}
    for number, (operation, tensor) in enumerate(wires):
        width = torch.float64 if tensor.is_floating_point() else torch.int64
        packs.setdefault((operation, width), []).append(number)
    merged = [tensor for _, tensor in wires]
    for (operation, width), numbers in packs.items():
        wire = torch.cat([merged[number].reshape(-1).to(width) for number in numbers])
        dist.all_reduce(wire, getattr(dist.ReduceOp, operation), group=group)
        parts = torch.split(wire, [merged[number].numel() for number in numbers])
        for number, part in zip(numbers, parts, strict=True):
            merged[number] = part.reshape(merged[number].shape)
    return merged


def _gather_chunks(
    kept: list[tuple[int, torch.Tensor]], device: torch.device, group: Any
) -> list[tuple[int, torch.Tensor]]:
    """Kept rows of all ranks, in their order; our own ones are not copied."""
    gathered = _agreed(lambda: [(number, chunk.cpu()) for number, chunk in kept], group)
    gathered[dist.get_rank(group)] = kept
    return [(number, chunk.to(device)) for rank in gathered for number, chunk in rank]


def on_cpu(call: Batch) -> Batch:
    """A batch with its tensors on the CPU."""
    return moved(call, torch.device("cpu"))


def moved(call: Batch, device: torch.device | None) -> Batch:
    """A batch with its tensors on a device; as it is where that is None."""
    if device is None:
        return call
    leaves = [leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf for leaf in call.leaves]
    return Batch(call.layout, leaves, call.n)
