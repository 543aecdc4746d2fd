"""Samples that meet in a forward pass: some are replaced by another one, and outputs of the others must stay.

A graph names BatchNorm (`coupling`), but no router with a capacity, no statistic over the batch that is written by
hand, no codebook that each micro-batch moves. So a model's first micro-batch goes through forward a few times more,
without a graph, and everything is put back. What cannot be seen this way is left alone: a refusal must be certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.determinism import room_for
from batchproof.gradients.accumulation.outputs import variables
from batchproof.gradients.accumulation.starting import Start
from batchproof.ground import trees
from batchproof.ground.batch import Batch, copied_entry, same
from batchproof.ground.isolation import reachable

#: Micro-batches in which nothing could be seen, until no more are looked at.
MOST_LOOKS = 4
#: Samples that take the place of half the others, one after the other.
OTHERS = 4
#: Rows that are looked for in another order must be found this much nearer than those that are where they were.
MATCH = 0.1
#: Numbers of each sample's outputs that are compared.
NUMBERS = 1024

MIXES = (
    "forward makes a sample's output depend on the other samples of its micro-batch{}, so micro-batches cannot give "
    "the whole batch's gradient: take out what mixes them (a statistic over the batch, a router with a capacity, "
    "attention between samples), or pass allow_coupling=True for the gradient of the micro-batches as they are"
)
REMEMBERS = (
    "forward makes outputs depend on the micro-batches before (a codebook, a queue or a running mean that it both "
    "writes and uses), so micro-batches cannot give the whole batch's gradient: update it after the step, or pass "
    "allow_coupling=True for the gradient of the micro-batches as they are"
)

_ONE_LEAF = pytree.tree_structure(0)

Change = tuple[Sequence[int], int]  # samples, and the one that takes their place
_looks: WeakKeyDictionary[Any, dict[Any, int]] = WeakKeyDictionary()


def to_look_at(forward: Callable[..., Any], modules: Sequence[torch.nn.Module]) -> bool:
    """Whether a model has not been seen by this code, in these modes; a closure made anew is the same code."""
    owners, key = _known_by(forward, modules)
    return any(_looks.get(owner, {}).get(key, MOST_LOOKS) > 0 for owner in owners)


def looked_at(forward: Callable[..., Any], modules: Sequence[torch.nn.Module], judged: bool) -> None:
    """Note that a model was looked at."""
    owners, key = _known_by(forward, modules)
    for owner in owners:
        left = _looks.setdefault(owner, {})
        left[key] = 0 if judged else left.get(key, MOST_LOOKS) - 1


def _known_by(forward: Callable[..., Any], modules: Sequence[torch.nn.Module]) -> tuple[Sequence[Any], Any]:
    """What lives as long as a model does, and how it is used; of one without modules, the code of all its functions."""
    if not modules:
        codes = [thing.__code__ for thing in reachable(forward) if hasattr(thing, "__code__")]
        return codes[:1] or [type(forward)], tuple(codes)
    while hasattr(forward, "func"):  # a partial
        forward = forward.func
    modes = tuple(part.training for module in modules for part in module.modules())
    return modules, (getattr(forward, "__code__", type(forward)), hash(modes))


@dataclass(frozen=True)
class MicroBatchSamples:
    """A micro-batch with its containers opened.

    Attributes:
        tree: of the containers.
        leaves: tensors, lists with an entry for each sample, and anything else.
        dims: which of their dimensions counts samples, None where there is none.
        n: the number of samples.
    """

    tree: Any
    leaves: list[Any]
    dims: list[int | None]
    n: int

    def taken(self, order: Sequence[int]) -> Any:
        """A micro-batch of these samples, of its own: forward may write into it."""
        pairs = zip(self.leaves, self.dims, strict=True)
        return trees.closed(pytree.tree_unflatten([_taken(leaf, dim, order) for leaf, dim in pairs], self.tree))

    def changed(self, change: Change) -> Any:
        """A micro-batch in which some samples are replaced by another one."""
        rows, by = change
        return self.taken([by if row in rows else row for row in range(self.n)])

    def differ(self, change: Change) -> bool:
        """Whether that makes another micro-batch."""
        rows, by = change
        columns = [
            leaf.movedim(dim, 0) if isinstance(leaf, Tensor) else leaf
            for leaf, dim in zip(self.leaves, self.dims, strict=True)
            if dim is not None
        ]
        return any(not same(column[row], column[by]) for column in columns for row in rows)


def _taken(leaf: Any, dim: int | None, order: Sequence[int]) -> Any:
    if isinstance(leaf, Tensor):
        own = leaf.detach()
        own = own.clone() if dim is None else own.index_select(dim, torch.tensor(order, device=leaf.device))
        return own.requires_grad_(leaf.requires_grad)
    return leaf if dim is None else [copied_entry(leaf[row]) for row in order]


def samples_of(micro_batch: Any, n: int, batch_dim: int) -> MicroBatchSamples | None:
    """The samples behind ``n`` rows of outputs: as many, or a part of that where forward lays them end to end.

    None where the micro-batch is not understood, or holds indices that are no sample's own: edges between nodes, where
    sequences begin in a row of them. Samples may meet there within what is one unit to its user. A list may have an
    item for each sample, which forward makes a batch of, or items that each hold all: None where it may be either.
    """
    read = [found for found in (_listed(micro_batch, n), _laid_out(micro_batch, n, batch_dim)) if found is not None]
    sure = read if len(read) == 1 else [found for found in read if found.n == n]
    return sure[0] if len(sure) == 1 else None


def _listed(micro_batch: Any, n: int) -> MicroBatchSamples | None:
    """A list with an item for each sample."""
    if type(micro_batch) is not list or len(micro_batch) < 2 or n % len(micro_batch) or trees.is_column(micro_batch):
        return None
    if isinstance(micro_batch[0], Tensor) or any(type(item) is not type(micro_batch[0]) for item in micro_batch):
        return None
    return MicroBatchSamples(_ONE_LEAF, [micro_batch], [0], len(micro_batch))


def _laid_out(micro_batch: Any, n: int, batch_dim: int) -> MicroBatchSamples | None:
    """Tensors with a row for each sample."""
    try:
        opened = trees.opened(micro_batch, "micro_batch")
    except BatchproofError:
        return None
    leaves, tree = pytree.tree_flatten(opened, is_leaf=trees.is_column)
    sizes = [_length(leaf) for leaf in leaves if _length(leaf)]
    for size in [n, *dict.fromkeys(sizes)]:
        dims = [_dim(leaf, size, batch_dim) for leaf in leaves]
        if size > 1 and n % size == 0 and any(dim is not None for dim in dims):
            strange = [leaf for leaf, dim in zip(leaves, dims, strict=True) if dim is None and _indexes(leaf)]
            return None if strange else MicroBatchSamples(tree, leaves, dims, size)
    return None


def _length(leaf: Any) -> int:
    if isinstance(leaf, Tensor):
        return leaf.shape[0] if leaf.ndim else 0
    return len(leaf) if trees.is_column(leaf) else 0


def _dim(leaf: Any, size: int, batch_dim: int) -> int | None:
    if not isinstance(leaf, Tensor):
        return 0 if _length(leaf) == size else None
    usual = [batch_dim % leaf.ndim] if -leaf.ndim <= batch_dim < leaf.ndim else []
    return next((dim for dim in [*usual, *range(leaf.ndim)] if leaf.shape[dim] == size), None)


def _indexes(leaf: Any) -> bool:
    whole = isinstance(leaf, Tensor) and not (leaf.is_floating_point() or leaf.is_complex())
    return whole and leaf.dtype is not torch.bool and leaf.numel() > 1


@dataclass(frozen=True)
class OutputRows:
    """Some numbers of each sample's outputs.

    Attributes:
        columns: a row for each sample, from each output.
        n: the number of rows.
        room: by what share of their size they may differ.
    """

    columns: list[Tensor]
    n: int
    room: float

    @classmethod
    def of(cls, call: Batch) -> OutputRows:
        """Those of a batch of outputs."""
        pairs = zip(call.leaves, call.layout.dims, strict=True)
        columns = [_some(leaf.movedim(dim, 0)) for leaf, dim in pairs if isinstance(leaf, Tensor) and dim is not None]
        return cls(columns, call.n, room_for(variables(call)))

    def moved(self, after: OutputRows) -> Tensor | None:
        """Which rows have become others; None where there are other rows."""
        if [one.shape for one in self.columns] != [one.shape for one in after.columns]:
            return None
        marks = torch.zeros(self.n, dtype=torch.bool)
        for a, b in zip(self.columns, after.columns, strict=True):
            marks |= _moved(a, b, self.room)
        return marks

    def reordered(self, order: Sequence[int]) -> OutputRows:
        """The rows in another order."""
        places = torch.tensor(order)
        return replace(self, columns=[column[places.to(column.device)] for column in self.columns])

    def lost(self, after: OutputRows) -> int:
        """How many rows are not there any more, in whatever order they come: forward may sort its samples."""
        mine, theirs = self._marks(), after._marks().sort().values
        places = torch.searchsorted(theirs, mine).clamp(max=len(theirs) - 1)
        gaps = torch.stack([(theirs[place] - mine).abs() for place in (places, (places - 1).clamp(min=0))]).amin(0)
        return int((gaps > MATCH * self.room * mine.abs().amax()).sum())

    def _marks(self) -> Tensor:
        """One number for each row, which tells it from others."""
        total = torch.zeros(self.n, dtype=torch.float64)
        for place, column in enumerate(self.columns):
            wide = torch.view_as_real(column).flatten(1) if column.is_complex() else column
            turn = torch.arange(1, wide.shape[1] + 1, dtype=torch.float64) * (place + 1)
            total += (wide.double().nan_to_num().cpu() * turn.sin()).sum(1)
        return total

    def same(self, again: OutputRows) -> bool:
        """Whether nothing has become another thing."""
        marks = self.moved(again)
        return marks is not None and not bool(marks.any())


def _some(rows: Tensor) -> Tensor:
    """A few numbers of each row, far apart, as a copy."""
    flat = rows.detach().reshape(len(rows), -1)
    return flat[:, :: max(1, flat.shape[1] // NUMBERS)].clone()


def _moved(before: Tensor, after: Tensor, room: float) -> Tensor:
    same = (before == after) | ((before != before) & (after != after))
    if (before.is_floating_point() or before.is_complex()) and before.numel():
        size = torch.where(before.isfinite(), before, 0).abs().amax()
        same |= (before - after).abs() <= room * size
    return (~same).any(1).cpu()


def look(
    run: Callable[[Any], Batch], start: Start, micro_batch: Any, call: Batch, modules: Sequence[torch.nn.Module]
) -> Callable[[], bool]:
    """Make ready to see whether a micro-batch's samples meet; the call's graph may be let go of then.

    Args:
        run: forward, without a graph.
        start: from where the micro-batch's forward pass began.
        micro_batch: what forward took.
        call: what it gave.
        modules: that it runs.

    Returns:
        A function that raises BatchproofError if they meet, and says whether that could be seen.
    """
    before = OutputRows.of(call)
    batch_dim = next((dim for dim in call.layout.dims if dim is not None), 0)
    samples = samples_of(micro_batch, call.n, batch_dim)
    if samples is None or not before.columns:
        return lambda: False
    return _Look(run, start, samples, before, _passes_on(samples, call), modules).judged


def _passes_on(samples: MicroBatchSamples, call: Batch) -> bool:
    """Whether outputs are known to be in the order of the samples: forward hands some of these on, labels mostly."""
    for leaf, dim in zip(samples.leaves, samples.dims, strict=True):
        for out, own in zip(call.leaves, call.layout.dims, strict=True):
            alike = isinstance(leaf, Tensor) and isinstance(out, Tensor) and leaf.shape == out.shape and dim == own
            if alike and dim is not None and torch.equal(leaf, out):
                rows = leaf.movedim(dim, 0)
                if bool((rows != rows[:1]).any()):
                    return True
    return False


@dataclass(frozen=True)
class _Look:
    run: Callable[[Any], Batch]
    start: Start
    samples: MicroBatchSamples
    before: OutputRows
    in_order: bool
    modules: Sequence[torch.nn.Module]

    def judged(self) -> bool:
        """Whether it could be seen that no samples meet; raise BatchproofError where they do."""
        middle, last = self.samples.n // 2, self.samples.n - 1
        front, back = range(middle), range(middle, self.samples.n)
        # where there is no room for so many alike, one that had a place loses it: of several, one had
        others = dict.fromkeys(middle + step * (last - middle) // (OTHERS - 1) for step in range(OTHERS))
        changes: list[Change] = [(back, 0), *((front, other) for other in others)]
        try:
            judged = self._apart([change for change in changes if self.samples.differ(change)])
            if judged and self.in_order:
                self._check_places()
            return judged
        finally:
            self.start.put_back()

    def _apart(self, changes: Sequence[Change]) -> bool:
        judged = False
        for change in changes:
            after = self.seen(self.samples.changed(change))
            if after is None or self.before.moved(after) is None:
                continue
            if self.start.written and not judged:
                self._check_memory(change)
            judged = True
            if self.reaches(change, self.before, after):
                if not self._is_certain(change):
                    return False
                raise BatchproofError(MIXES.format(self._where(change)))
        return judged

    def seen(self, *micro_batches: Any, dropout: bool = True) -> OutputRows | None:
        """The last one's outputs, after the others left their traces; None where forward does not take what we made."""
        self.start.put_back()
        try:
            with nullcontext() if dropout else undropped(self.modules):
                for micro_batch in micro_batches:
                    self.start.generators()
                    call = self.run(micro_batch)
        except Exception:  # noqa: BLE001 - it is no micro-batch of the user's
            return None
        return replace(OutputRows.of(call), room=self.before.room)

    def plain(self) -> Any:
        """The micro-batch as it came."""
        return self.samples.taken(range(self.samples.n))

    def reaches(self, change: Change, before: OutputRows, after: OutputRows) -> bool:
        """Whether outputs of other samples moved."""
        marks = before.moved(after)
        if marks is None:
            return False
        if self.in_order:
            marks[list(change[0])] = False
            return bool(marks.any())
        return int(marks.sum()) > self._share(change) and before.lost(after) > self._share(change)

    def _share(self, change: Change) -> int:
        """How many rows of outputs belong to the samples that were changed."""
        return len(change[0]) * (self.before.n // self.samples.n)

    def _check_memory(self, change: Change) -> None:
        """Raise BatchproofError where what forward writes of other samples moves outputs; the count of calls may."""
        after_itself = self.seen(self.plain(), self.plain())
        after_others = self.seen(self.samples.changed(change), self.plain())
        again = self.seen(self.plain(), self.plain())
        if after_itself is None or after_others is None or again is None or not after_itself.same(again):
            return
        if not after_itself.same(after_others):
            raise BatchproofError(REMEMBERS)

    def _check_places(self) -> None:
        """Raise BatchproofError where other samples have a place if their order is another one.

        Where all go to one expert, the first ones do: no sample that is replaced by another moves a third.
        """
        order = range(self.samples.n - 1, -1, -1)
        before = self.seen(self.plain())
        dropout = not self.start.drawn
        if not dropout:  # which falls to places
            before = self.seen(self.plain(), dropout=False)
            if self.start.drawn:
                return
        after = self.seen(self.samples.taken(order), dropout=dropout)
        if before is None or after is None:
            return
        moved = before.reordered(order).moved(after)
        if moved is None or not bool(moved.any()) or not self._are_samples():
            return
        again = self.seen(self.plain(), dropout=dropout)
        if again is not None and before.same(again):
            raise BatchproofError(MIXES.format(""))

    def _is_certain(self, change: Change) -> bool:
        """Whether it was no chance, no dropout of samples that take other places, and whether these are samples."""
        again = self.seen(self.plain())
        if again is None or not self.before.same(again):
            return False
        plain, after = (self.seen(one, dropout=False) for one in (self.plain(), self.samples.changed(change)))
        if plain is None or after is None or not self.reaches(change, plain, after):
            return False
        return self._are_samples()

    def _are_samples(self) -> bool:
        """Whether there could be one more or less of them.

        Time steps, or the nodes of one graph, may happen to be as many as there are samples, or in their place.
        """
        n, rows = self.samples.n, self.before.n
        other = [*range(n - 1)] if n > 2 else [*range(n), 0]
        resized = self.seen(self.samples.taken(other))
        return resized is not None and resized.n * n == rows * len(other)

    def _where(self, change: Change) -> str:
        """The first module whose output moves for a sample that was not changed, as a part of a sentence."""
        if not self.in_order:
            return ""
        runs: list[list[tuple[str, Tensor]]] = []
        for micro_batch in (self.plain(), self.samples.changed(change)):
            runs.append([])
            with _outputs_of(self.modules, self.samples.n, runs[-1]):
                self.seen(micro_batch, dropout=False)
        others = [row for row in range(self.samples.n) if row not in change[0]]
        for (name, a), (other, b) in zip(*runs, strict=False):
            if name != other or a.shape != b.shape:
                break
            if bool(_moved(a, b, self.before.room)[others].any()):
                return f", at {name}"
        return ""


@contextmanager
def _outputs_of(modules: Sequence[torch.nn.Module], n: int, found: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Note some numbers of every module's output that has a row for each sample, as they come."""
    handles = []
    for module in modules:
        for name, part in module.named_modules():

            def note(part: torch.nn.Module, args: Any, out: Any, name: str = name) -> None:
                if isinstance(out, Tensor) and out.ndim and len(out) == n:
                    found.append((f"{name} ({type(part).__name__})" if name else type(part).__name__, _some(out)))

            handles.append(part.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def undropped(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """No dropout: experts drop from as many tokens as came to them, so its numbers fall to other tokens each time."""
    before: list[tuple[dict[str, Any], str, Any]] = []
    for part in dict.fromkeys(part for module in modules for part in module.modules()):
        off: dict[str, Any] = {"training": False} if isinstance(part, _DropoutNd) else {}
        off |= {name: 0.0 for name in ("dropout", "dropout_p") if isinstance(vars(part).get(name), float)}
        before += [(vars(part), name, vars(part)[name]) for name in off]
        vars(part).update(off)
    try:
        with _Undropped():
            yield
    finally:
        for table, name, value in before:
            table[name] = value


class _Undropped(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "dropout" in getattr(func, "__name__", "") and args and isinstance(args[0], Tensor):
            return args[0]
        return func(*args, **(kwargs or {}))
