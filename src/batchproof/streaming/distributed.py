"""Merge a stream over the processes of a group: one collective per kind of merge, everything packed.

Every rank must fold by the same plan. The first rank that has one sends the rows that it learnt from; the others derive
from them, so that centres agree, and fold what they still hold as samples.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from batchproof.errors import BatchproofError
from batchproof.streaming.arguments import Call
from batchproof.streaming.merging import constants, fingerprint, merge_slots, structure
from batchproof.streaming.state import GROUPS, Slots
from batchproof.streaming.stream import Stream


def sync(stream: Stream, group: Any = None) -> None:
    """Make every rank's stream hold all ranks' samples. What was synced before is not counted twice."""
    if not (dist.is_available() and dist.is_initialized()):
        raise BatchproofError("sync needs a process group: call torch.distributed.init_process_group first")
    mine = own(stream)
    header = (
        ("state", (fingerprint(stream), (structure(mine.plan), constants(stream))))
        if isinstance(mine, Slots)
        else ("rows", len(mine))
    )
    headers: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(headers, header, group=group)
    _same_kind_of_batch(stream, group)
    if all(kind == "rows" for kind, _ in headers):
        assert isinstance(mine, list)
        stream.own, stream.synced, stream.rows = mine, _gather_rows(mine, group), []
        return
    teacher = next(rank for rank, (kind, _) in enumerate(headers) if kind == "state")
    shapes = [what[1] for kind, what in headers if kind == "state"]
    if any(shape != shapes[0] for shape in shapes):
        raise BatchproofError(
            "mismatched states: the ranks hold different leaves; sync takes the same function on each"
        )
    alike = {what[0] for kind, what in headers if kind == "state"}
    if len(alike) > 1 or any(kind == "rows" for kind, _ in headers):
        mine = _taught(stream, mine, teacher, group)
    assert isinstance(mine, Slots)
    total = mine.clone()
    reduce(total, group)
    stream.own, stream.synced = mine, total
    stream.slots = Slots.empty(mine.plan, _device(mine))


def _same_kind_of_batch(stream: Stream, group: Any) -> None:
    """Refuse on every rank where the ranks' batches have other dtypes or structures."""
    kinds: list[Any] = [None] * dist.get_world_size(group)
    first = stream.first
    mine = None
    if first is not None:
        mine = [str(leaf.dtype) if isinstance(leaf, torch.Tensor) else type(leaf).__name__ for leaf in first.leaves]
    dist.all_gather_object(kinds, mine, group=group)
    known = [kind for kind in kinds if kind is not None]
    if any(kind != known[0] for kind in known):
        raise BatchproofError(
            f"mismatched states: one rank was fed with {', '.join(known[0])}, another with "
            f"{', '.join(next(kind for kind in known if kind != known[0]))}; convert them first"
        )


def first_known(value: Any, group: Any) -> Any:
    """Each part of a tuple, from the first rank that has it."""
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, value, group=group)
    return tuple(next((part for part in column if part is not None), None) for column in zip(*gathered, strict=True))


def own(stream: Stream) -> Slots | list[tuple[int, Call]]:
    """All that this process has folded in itself, whatever was synced."""
    if isinstance(stream.own, Slots):
        total = stream.own.clone()
        if stream.slots is not None:
            total.absorb(stream.slots)
        return total
    if stream.slots is not None:
        return stream.slots.clone()
    return [*(stream.own or []), *stream.rows]


def _gather_rows(mine: list[tuple[int, Call]], group: Any) -> list[tuple[int, Call]]:
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, [(number, on_cpu(call)) for number, call in mine], group=group)
    device = next((leaf.device for _, call in mine for leaf in call.columns if isinstance(leaf, torch.Tensor)), None)
    calls = [(number, moved(call, device)) for rows in gathered for number, call in rows]
    return [((position + number) % GROUPS, call) for position, (number, call) in enumerate(calls)]


def _taught(stream: Stream, mine: Any, teacher: int, group: Any) -> Slots:
    """Our state by the teacher's plan."""
    is_teacher = dist.get_rank(group) == teacher
    box: list[Any] = [on_cpu(stream.lesson) if is_teacher and stream.lesson is not None else None]
    source = teacher if group is None else dist.get_global_rank(group, teacher)
    dist.broadcast_object_list(box, src=source, group=group)
    if is_teacher:
        assert isinstance(mine, Slots)
        return mine
    lesson = box[0]
    if isinstance(mine, Slots):
        device: torch.device | None = _device(mine)
    else:
        columns = [leaf for _, call in mine for leaf in call.columns]
        device = columns[0].device if columns else None
    student = Stream(stream.fn, stream.state, stream.warmup)
    student.first = stream.first
    lesson = moved(lesson, device)
    student.adopt(student.derived(lesson), lesson, [] if isinstance(mine, Slots) else mine)
    assert student.slots is not None
    if isinstance(mine, Slots):
        merge_slots(student, mine, stream)
    stream.plan, stream.lesson, stream.first = student.plan, student.lesson, student.first
    stream.variants, stream.hot, stream.rows = student.variants, student.hot, []
    return student.slots


def reduce(slots: Slots, group: Any) -> None:
    """All ranks' leaves, merged in place: at most one collective for each of float sums, counts, maxima and minima."""
    packs: dict[tuple[Any, torch.dtype], list[torch.Tensor]] = {}
    device = _device(slots)
    counts = torch.tensor([[n, *row] for n, row in zip(slots.counts, slots.lengths, strict=True)], device=device)
    operations = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}
    operations |= {"any": dist.ReduceOp.MAX, "all": dist.ReduceOp.MIN}
    plain = [(leaf, kept) for leaf, kept in zip(slots.plan.leaves, slots.leaves, strict=True) if leaf.merge != "rows"]
    for leaf, kept in [*plain, (None, counts)]:
        operation = operations[leaf.merge if leaf is not None else "sum"]
        width = _wire(kept.dtype)
        packs.setdefault((operation, width), []).append(kept)
    for (operation, width), tensors in packs.items():
        wire = torch.cat(
            [torch.view_as_real(t).reshape(-1) if t.is_complex() else t.reshape(-1).to(width) for t in tensors]
        )
        dist.all_reduce(wire, operation, group=group)
        start = 0
        for tensor in tensors:
            flat = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            flat.copy_(wire[start : start + flat.numel()].reshape(flat.shape))
            start += flat.numel()
    for row, group_counts in enumerate(counts.tolist()):
        slots.counts[row], slots.lengths[row] = group_counts[0], group_counts[1:]
    for leaf, kept in zip(slots.plan.leaves, slots.leaves, strict=True):
        if leaf.merge == "rows":
            _gather_chunks(kept, device, group)


def _gather_chunks(kept: list[tuple[int, torch.Tensor]], device: torch.device, group: Any) -> None:
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, [(number, chunk.cpu()) for number, chunk in kept], group=group)
    kept[:] = [(number, chunk.to(device)) for rank in gathered for number, chunk in rank]


def _wire(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype.is_floating_point or dtype.is_complex else torch.int64


def _device(slots: Slots) -> torch.device:
    return next((kept.device for kept in slots.leaves if isinstance(kept, torch.Tensor)), torch.device("cpu"))


def on_cpu(call: Call) -> Call:
    return moved(call, torch.device("cpu"))


def moved(call: Call, device: torch.device | None) -> Call:
    if device is None:
        return call
    leaves = [leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf for leaf in call.leaves]
    return Call(call.layout, leaves, call.n)
