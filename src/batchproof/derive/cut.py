"""Where to cut: the cheapest mergeable values through which every path from the samples to the result passes.

A minimum cut of the dataflow graph, in bytes.  Kept rows cost their size times a million samples, so a state of
constant size wins wherever there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import networkx as nx
import torch

from batchproof.derive.kind import COUNTED, MERGEABLE, ROWLIKE, Kind
from batchproof.derive.operators import base_name
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.recording import Free, Ref, Size, leaves

MANY = 1_000_000
#: What a leaf costs beside its bytes: each is one more thing that every update computes and adds.
PER_LEAF = 1024

_LINEAR_VIEWS = frozenset(
    """view _unsafe_view reshape unsqueeze squeeze permute transpose t expand clone detach alias
select slice diagonal unbind split stack cat neg sum add sub flip""".split()
)


@dataclass(frozen=True)
class Frontier:
    """The values to keep, and the operations that finish runs for real."""

    leaves: tuple[int, ...]
    after: frozenset[int]  # operations between the leaves and the result


def nbytes(value: ProgramValue) -> int:
    """Bytes of a value in the state (of one sample's share of it, for rows)."""
    width = 1 if value.kind in (Kind.ANY, Kind.ALL) else 8
    return width * prod(size.scale if isinstance(size, Size) else size for size in value.shape)


def additive_stats(program: Program) -> set[int]:
    """Stats that are linear in unconditional sums, and so are sums themselves: a fact of the operators."""
    found: set[int] = set()
    values = program.values

    def adds(leaf: Any) -> bool:
        return isinstance(leaf, Ref) and (
            leaf.index in found or (values[leaf.index].kind is Kind.SUM and not values[leaf.index].given)
        )

    def fixed(leaf: Any) -> bool:
        if isinstance(leaf, Ref):
            return values[leaf.index].kind is Kind.SHARED
        return not isinstance(leaf, (Free, Size))

    for op in program.ops:
        if not op.outputs or values[op.outputs[0]].kind is not Kind.STAT:
            continue
        name = base_name(op)
        operands = list(leaves((op.args, op.kwargs)))
        tensors = [leaf for leaf in operands if isinstance(leaf, Ref)]
        others_fixed = all(fixed(leaf) for leaf in operands if not isinstance(leaf, Ref))
        linear = name in _LINEAR_VIEWS and others_fixed and all(adds(leaf) for leaf in tensors)
        if name in ("add", "sub"):
            linear = linear and len(tensors) == 2
        scaled = name in ("mul", "div") and not op.kwargs.get("rounding_mode") and adds(op.args[0])
        scaled = scaled and all(fixed(leaf) for leaf in operands[1:])
        scaled = scaled or (name == "mul" and fixed(op.args[0]) and adds(operands[-1]) and len(tensors) == 2)
        result = values[op.outputs[0]].dtype
        linear = linear or (scaled and result.is_floating_point)
        if linear and all(
            _wraps_alike(values[i].dtype, result) for i in op.inputs if values[i].kind is not Kind.SHARED
        ):
            found.update(op.outputs)
    return found


def _wraps_alike(source: torch.dtype, result: torch.dtype) -> bool:
    """Whether parts may be converted before they are added: a whole number that wraps around must not be widened."""
    if _whole(source) or _whole(result):
        return _whole(source) and _whole(result) and result.itemsize <= source.itemsize
    return True


def _whole(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex)


def sinks(program: Program) -> set[int]:
    """The values that must be right at the end: each way's result, and all that Python reads on the way."""
    results = [*program.result, *(leaf for end in program.others for leaf in end)]
    wanted = {leaf.index for leaf in results if isinstance(leaf, Ref)} | {read.value for read in program.reads}
    for index in program.asked:  # Python looked at a size that does not add over batches: the value must be there
        value = program.values[index]
        sources = {size.of[0] for size in value.shape if isinstance(size, Size) and size.of is not None}
        if any(program.values[source].kind not in COUNTED for source in sources):
            wanted.add(index)
    return wanted


def ancestors(program: Program, targets: Iterable[int]) -> set[int]:
    """All values that some values are made of, these among them."""
    found: set[int] = set()
    todo = list(targets)
    while todo:
        index = todo.pop()
        if index in found:
            continue
        found.add(index)
        op = program.values[index].op
        if op is not None:
            todo.extend(program.ops[op].inputs)
    return found


def cut(program: Program, centred: Callable[[ProgramValue], int]) -> Frontier:
    """The cheapest frontier.

    Args:
        program: classified by `classify`.
        centred: for a sum that is conditional on batch statistics, at how many centres it must be kept; 0 if no finite
            number does.
    """
    values = program.values
    wanted = sinks(program)
    live = ancestors(program, wanted)
    adds = additive_stats(program)
    graph = nx.DiGraph()
    source, sink = "source", "sink"
    graph.add_nodes_from((source, sink))
    for index in live:
        value = values[index]
        capacity = _capacity(value, index in adds, centred, program)
        edge = {} if capacity is None else {"capacity": capacity}
        graph.add_edge((index, 0), (index, 1), **edge)
        op = value.op
        if op is None and value.from_data:
            graph.add_edge(source, (index, 0))
        if op is not None and value.kind in ROWLIKE and not value.from_data:
            graph.add_edge(source, (index, 0))
        if op is not None:
            for parent in program.ops[op].inputs:
                into_rows = values[parent].kind in (Kind.STAT, *MERGEABLE) and value.kind in (*ROWLIKE, *MERGEABLE)
                graph.add_edge((parent, 1), sink if into_rows else (index, 0))
    for index in wanted:
        graph.add_edge((index, 1), sink)
    # networkx cuts next to its second terminal: reversed, that is next to the samples, where folding is cheapest
    _, (_, near) = nx.minimum_cut(graph.reverse(copy=False), sink, source)
    chosen = tuple(sorted(index for index in live if (index, 0) in near and (index, 1) not in near))
    chosen = tuple(index for index in chosen if values[index].from_data)
    return Frontier(chosen, operations_after(program, chosen))


def _capacity(value: ProgramValue, adds: bool, centred: Callable[[ProgramValue], int], program: Program) -> int | None:
    """Bytes, or None where the value cannot be kept."""
    size = max(nbytes(value), 1)
    if value.kind in MERGEABLE:
        points = centred(value) if value.given else 1
        return size * points + PER_LEAF if points else None
    if adds:
        return size + PER_LEAF
    if value.kind is Kind.ROWS and not value.given:
        return size * MANY
    return size * MANY if value.kind in ROWLIKE and not value.from_data else None


def operations_after(program: Program, chosen: Iterable[int]) -> frozenset[int]:
    """The operations from the values to keep to what must be right at the end."""
    kept = set(chosen)
    found: set[int] = set()
    todo = [index for index in sinks(program) if index not in kept]
    for leaf in kept:  # a centred sum needs its statistics
        op = program.values[leaf].op
        if op is not None and program.values[leaf].given:
            todo.extend(g for g in program.values[leaf].given if isinstance(g, int) and g not in kept)
    while todo:
        op = program.values[todo.pop()].op
        if op is None or op in found:
            continue
        found.add(op)
        todo.extend(index for index in program.ops[op].inputs if index not in kept)
    return frozenset(found)
