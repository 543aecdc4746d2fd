"""Read a call's arguments: which tensors carry samples, how many, and what is the same for all batches.

Arguments are trees of tensors, numpy arrays and lists. A list of numbers or strings is one column of samples, and so is
a list of tensors, one for each sample; a list of tensors that each hold the whole batch is a tree.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.ground import trees
from batchproof.ground.isolation import quiet
from batchproof.ground.trees import is_column

Dims = int | tuple[int | None, ...] | dict[str, int | None]


@dataclass(frozen=True)
class Layout:
    """The structure of a call: its tree, and each leaf's name and batch dimension (None: the same for all batches).

    A skeleton holds one argument's containers, every leaf a zero; a tuple with one entry for each sample is `ENTRIES`.
    """

    skeletons: tuple[Any, ...]
    names: tuple[str, ...]
    dims: tuple[int | None, ...]
    keywords: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """A layout in plain containers, to be saved."""
        return {**vars(self), "skeletons": tuple(trees.described(skeleton) for skeleton in self.skeletons)}

    @classmethod
    def of(cls, described: dict[str, Any]) -> Layout:
        """A layout from its description in plain containers."""
        return cls(**{**described, "skeletons": tuple(trees.restored(one) for one in described["skeletons"])})


ENTRIES = "entries"


@dataclass
class Batch:
    """One batch: the leaves of its arguments and the number of samples."""

    layout: Layout
    leaves: list[Any]
    n: int

    @property
    def columns(self) -> list[Any]:
        """The leaves that carry samples."""
        return [leaf for leaf, dim in zip(self.leaves, self.layout.dims, strict=True) if dim is not None]

    def all_tensors(self) -> bool:
        """Whether every leaf is a tensor."""
        return all(isinstance(leaf, torch.Tensor) for leaf in self.columns)


def check_batch_dim(batch_dim: Any) -> Dims:
    """An int, one per positional argument, or a dict of some arguments by name; BatchproofError where it is none."""
    given: Any = tuple(batch_dim) if isinstance(batch_dim, (list, tuple)) else batch_dim
    by_name = isinstance(given, Mapping)
    entries = tuple(given.values()) if by_name else given if isinstance(given, tuple) else (given,)
    strange = [dim for dim in entries if dim is not None and type(dim) is not int]
    if by_name:
        strange += [name for name in given if not isinstance(name, str)]
    if strange or (entries == (None,) and not by_name):
        raise BatchproofError(
            f"batch_dim={batch_dim!r}: expected an int, a tuple of int or None per positional argument, or a dict of "
            "these by the names of arguments"
        )
    dims: Dims = dict(given) if by_name else given
    return dims


@dataclass
class _Argument:
    """One argument as it is read.

    Attributes:
        label: its name.
        value: its containers opened.
        dim: the batch dimension that was given for it, or 0.
        said: whether it was given by name.
        keyword: whether the argument was.
        columns: where in it lists have an entry for each sample.
    """

    label: str
    value: Any
    dim: int | None
    said: bool
    keyword: bool
    columns: frozenset[str] = frozenset()

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Its leaves, by name."""
        yield from _walk(self.label, self.value, self.columns)

    def skeleton(self) -> Any:
        """Its containers, every leaf a zero."""
        return _skeleton(self.label, self.value, self.columns)


def _walk(label: str, value: Any, columns: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """The leaves of a tree by name; lists with an entry for each sample are leaves."""
    if label in columns or is_column(value):
        yield label, value
        return
    inner = _children(value)
    if inner is None:
        yield label, value
        return
    for key, child in inner:
        yield from _walk(label + key, child, columns)


def _children(value: Any) -> list[tuple[str, Any]] | None:
    """What is directly in a container, None for a leaf."""
    found, tree = pytree.tree_flatten_with_path(value, is_leaf=_all_below(value))
    if tree.is_leaf():
        return None
    return [(pytree.keystr(path), child) for path, child in found]


def _skeleton(label: str, value: Any, columns: frozenset[str]) -> Any:
    if label in columns:
        return ENTRIES if isinstance(value, tuple) else 0
    if is_column(value):
        return 0
    inner = _children(value)
    if inner is None:
        return 0
    tree = pytree.tree_structure(value, is_leaf=_all_below(value))
    return pytree.tree_unflatten([_skeleton(label + key, child, columns) for key, child in inner], tree)


def read(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    batch_dim: Dims,
    known: Layout | None = None,
    tried: bool = True,
) -> Batch:
    """The leaves of a call.

    Args:
        fn: whose arguments they are.
        args: the positional ones.
        kwargs: those by name.
        batch_dim: as `check_batch_dim` gives it.
        known: how the first batch was read: later ones are read alike.
        tried: whether ``fn`` may be called, to see which of two readings of a list or a keyword it takes.

    Raises:
        BatchproofError: an argument has no batch dimension, is empty, or disagrees on the number of samples; or it is
            something that is not understood.
    """
    found = _arguments(fn, args, kwargs, batch_dim)
    if known is None:
        _decide_lists(found, fn if tried else None)
        _decide_shared(found, fn if tried else None)
    else:
        _as_known(found, known)
    leaves: list[Any] = []
    dims: list[int | None] = []
    labels: list[str] = []
    for argument in found:
        for path, part in argument.parts():
            labels.append(f"'{path}'")
            dims.append(_dim_of(part, argument.dim, labels[-1], path in argument.columns))
            leaves.append(list(part) if path in argument.columns else part)
    skeletons = tuple(argument.skeleton() for argument in found)
    layout = Layout(skeletons, tuple(labels), tuple(dims), tuple(kwargs))
    return Batch(layout, leaves, _count(leaves, layout))


def _arguments(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], batch_dim: Dims) -> list[_Argument]:
    if isinstance(batch_dim, tuple) and len(batch_dim) != len(args):
        raise BatchproofError(
            f"batch_dim names {len(batch_dim)} positional arguments, the call has {len(args)}; give one per argument"
        )
    names = [*parameter_names(fn, len(args)), *kwargs]
    by_name = batch_dim if isinstance(batch_dim, dict) else {}
    unknown = [name for name in by_name if name not in names and not _takes(fn, name)]
    if unknown:
        raise BatchproofError(f"batch_dim names {unknown[0]!r}, but the arguments are {', '.join(names)}")
    found = []
    for position, (name, value) in enumerate(zip(names, [*args, *kwargs.values()], strict=True)):
        keyword = position >= len(args)
        given = 0 if keyword and not isinstance(batch_dim, int) else batch_dim
        dim = by_name.get(name, 0) if isinstance(given, dict) or by_name else given
        dim = dim[position] if isinstance(dim, tuple) else dim
        found.append(_Argument(name, trees.opened(value, f"'{name}'"), dim, name in by_name, keyword))
    return found


def _takes(fn: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of that name, or may have."""
    try:
        taken = inspect.signature(fn.forward if isinstance(fn, torch.nn.Module) else fn).parameters
    except (TypeError, ValueError):
        return True
    return name in taken or any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())


def _as_known(found: Sequence[_Argument], known: Layout) -> None:
    """Read lists and shared keywords as in the first batch."""
    dims = dict(zip(known.names, known.dims, strict=True))
    for argument in found:
        lists = [label for label, _ in _lists(argument.label, argument.value)]
        argument.columns = frozenset(label for label in lists if f"'{label}'" in dims)
        if argument.keyword and not argument.said:
            own = [dims[label] for label in (f"'{path}'" for path, _ in argument.parts()) if label in dims]
            if own and all(dim is None for dim in own):
                argument.dim = None


# ---------------------------------------------------------------------- lists of tensors


@dataclass
class _List:
    """A list or tuple that may have an entry for each sample.

    Attributes:
        argument: that it is in.
        label: where.
        value: itself.
        rows: the number of samples where each entry holds the whole batch; None where they do not agree on one.
    """

    argument: _Argument
    label: str
    value: Any
    rows: int | None


def _lists(label: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The outermost lists whose entries are alike and hold tensors or arrays."""
    if is_column(value):
        return
    if type(value) in (list, tuple) and value and _are_alike(value):
        yield label, value
        return
    for key, child in _children(value) or ():
        yield from _lists(label + key, child)


def _are_alike(entries: Sequence[Any]) -> bool:
    """Whether entries could be samples: built alike, with tensors of the same type and number of dimensions."""
    shapes = []
    for entry in entries:
        leaves, tree = pytree.tree_flatten(entry, is_leaf=is_column)
        kinds = [
            (leaf.dtype, leaf.ndim) if isinstance(leaf, torch.Tensor) or trees.is_array(leaf) else type(leaf)
            for leaf in leaves
        ]
        shapes.append((tree, kinds))
    holds = any(isinstance(kind, tuple) for kind in shapes[0][1])
    return holds and all(shape == shapes[0] for shape in shapes)


def _decide_lists(found: Sequence[_Argument], fn: Callable[..., Any] | None) -> None:
    """Say of each list of tensors whether its entries are samples, or each holds the whole batch.

    Raises:
        BatchproofError: they may be either.
    """
    lists = [
        _List(argument, label, value, _rows_within(value, argument.dim))
        for argument in found
        if argument.dim is not None
        for label, value in _lists(argument.label, argument.value)
    ]
    if not lists:
        return
    n = _samples_beside(found, lists)
    as_tree = {one.rows for one in lists}
    as_entries = {len(one.value) for one in lists}
    tree = None not in as_tree and len(as_tree) == 1 and n in (None, *as_tree)
    entries = len(as_entries) == 1 and n in (None, *as_entries)
    if not entries or (fn is not None and _needs_its_length(fn, found, lists)):
        return
    if tree and not _of_images(lists):
        first = lists[0]
        raise BatchproofError(
            f"argument '{first.label}', a {type(first.value).__name__} of {len(first.value)} with {first.rows} rows in "
            "each entry, may be one entry for each sample, or entries that each hold the whole batch: stack them, or "
            "pass one tensor per argument"
        )
    for one in lists:
        one.argument.columns |= {one.label}


def _of_images(lists: Sequence[_List]) -> bool:
    """Whether several lists hold as many mappings: detections and targets, image by image, as torchvision has them.

    Boxes are rows of an image, also where all images happen to have as many.
    """
    return len(lists) > 1 and all(isinstance(entry, Mapping) for one in lists for entry in one.value)


def _rows_within(entries: Sequence[Any], dim: int | None) -> int | None:
    sizes: set[int | None] = set()
    for leaf in pytree.tree_leaves(list(entries), is_leaf=is_column):
        if is_column(leaf):
            sizes.add(len(leaf))
        elif isinstance(leaf, torch.Tensor) or trees.is_array(leaf):
            fits = dim is not None and -leaf.ndim <= dim < leaf.ndim
            sizes.add(int(leaf.shape[dim]) if fits and dim is not None else None)
    return sizes.pop() if len(sizes) == 1 else None


def _samples_beside(found: Sequence[_Argument], lists: Sequence[_List]) -> int | None:
    """The number of samples by what is in no such list; None where nothing says it."""
    labels = frozenset(one.label for one in lists)
    for argument in found:
        if argument.dim is None:
            continue
        for path, leaf in _walk(argument.label, argument.value, labels):
            if path in labels:
                continue
            if is_column(leaf):
                return len(leaf)
            if (isinstance(leaf, torch.Tensor) or trees.is_array(leaf)) and -leaf.ndim <= argument.dim < leaf.ndim:
                return int(leaf.shape[argument.dim])
    return None


def _needs_its_length(fn: Callable[..., Any], found: Sequence[_Argument], lists: Sequence[_List]) -> bool:
    """Whether a function takes lists of this length only: it names their entries, which then are no samples."""
    labels = frozenset(one.label for one in lists)
    for change in (lambda entries: entries[:1], lambda entries: [*entries, entries[0]]):
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for argument in found:
            value = trees.closed(_changed(argument.label, argument.value, labels, change))
            if argument.keyword:
                kwargs[argument.label] = value
            else:
                args.append(value)
        with torch.no_grad(), quiet(fn):
            try:
                fn(*args, **kwargs)
            except (IndexError, ValueError) as error:
                if isinstance(error, IndexError) or "unpack" in str(error):
                    return True
            except Exception:  # noqa: BLE001 - on other samples it may raise, too: that says nothing
                continue
    return False


def _changed(label: str, value: Any, labels: frozenset[str], change: Callable[[list[Any]], list[Any]]) -> Any:
    if label in labels:
        return type(value)(change([copied_entry(entry) for entry in value]))
    if is_column(value):
        return list(value)
    inner = _children(value)
    if inner is None:
        return copied(value)
    tree = pytree.tree_structure(value, is_leaf=_all_below(value))
    return pytree.tree_unflatten([_changed(label + key, child, labels, change) for key, child in inner], tree)


# ---------------------------------------------------------------------- shared keywords


def _decide_shared(found: Sequence[_Argument], fn: Callable[..., Any] | None) -> None:
    """Take a keyword as shared by all batches where it cannot hold the batch.

    It is as long as no other argument; or, by chance as long as the first batch, the function does not take more of it
    with more samples (the weights of 20 classes, with 20 samples).
    """
    lengths = {
        argument.label: [_length_at(leaf, argument.dim) for path, leaf in argument.parts() if _may_hold(leaf)]
        for argument in found
        if argument.dim is not None
    }
    n = _agreed(found, lengths)
    if n is None:
        return
    for argument in found:
        own = lengths.get(argument.label)
        if not own or not argument.keyword or argument.said:
            continue
        if n not in own or (n > 1 and fn is not None and _keeps_its_length(fn, found, argument)):
            argument.dim = None


def _keeps_its_length(fn: Callable[..., Any], found: Sequence[_Argument], keyword: _Argument) -> bool:
    """Whether with one sample more a function takes a keyword as it is, and does not take it with one entry more."""

    def takes(shared: _Argument | None) -> bool:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        try:
            for argument in found:
                value = _longer(argument.value, None if argument is shared else argument.dim)
                if argument.keyword:
                    kwargs[argument.label] = trees.closed(value)
                else:
                    args.append(trees.closed(value))
            with torch.no_grad(), quiet(fn):
                fn(*args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever it raises, it does not take them
            return False
        return True

    return not takes(None) and takes(keyword)


def _longer(value: Any, dim: int | None) -> Any:
    """Tensors and lists with their first sample once more at the end."""

    def one(leaf: Any) -> Any:
        if dim is not None and isinstance(leaf, torch.Tensor):
            return torch.cat([leaf.detach(), leaf.detach().narrow(dim, 0, 1)], dim)
        if dim is not None and is_column(leaf):
            return [*leaf, leaf[0]]
        return copied(leaf)

    return pytree.tree_map(one, value, is_leaf=is_column)


def _may_hold(leaf: Any) -> bool:
    return isinstance(leaf, (torch.Tensor, list)) or (isinstance(leaf, tuple) and bool(leaf)) or trees.is_array(leaf)


def _length_at(leaf: Any, dim: int | None) -> int | None:
    if isinstance(leaf, (list, tuple)):
        return len(leaf)
    return int(leaf.shape[dim]) if dim is not None and -leaf.ndim <= dim < leaf.ndim else None


def _agreed(found: Sequence[_Argument], lengths: dict[str, list[int | None]]) -> int | None:
    """The number of samples by the positional arguments; where there are none, the one that two keywords agree on."""
    positional = [size for one in found if not one.keyword for size in lengths.get(one.label, ()) if size is not None]
    if any(not one.keyword for one in found):
        return positional[0] if positional else None
    every = [size for sizes in lengths.values() for size in sizes if size is not None]
    often = [size for size in dict.fromkeys(every) if every.count(size) > 1]
    return often[0] if len(often) == 1 else None


def _dim_of(leaf: Any, dim: int | None, label: str, entries: bool) -> int | None:
    if dim is None:
        return None
    if entries or is_column(leaf):
        return 0
    if not isinstance(leaf, torch.Tensor) and not trees.is_array(leaf):
        return None
    if not -leaf.ndim <= dim < leaf.ndim:
        raise BatchproofError(
            f"argument {label} of shape {tuple(leaf.shape)} has no dimension {dim} to hold the batch; "
            f"{_say_shared(label)} marks what all batches share"
        )
    return dim % int(leaf.ndim)


def _say_shared(label: str) -> str:
    """What to write where an argument is shared."""
    name = label.strip("'").partition("[")[0].partition(".")[0]
    return f"batch_dim={{{name!r}: None}}"


def _all_below(value: Any) -> Callable[[Any], bool]:
    """For `pytree`: everything but a value itself is a leaf.

    By its number: `pytree` leaves a reference cycle behind, in which the value, and the graph of a tensor, would stay.
    """
    own = id(value)
    return lambda leaf: id(leaf) != own


def length(leaf: Any, dim: int) -> int:
    """The number of samples of a leaf along its batch dimension."""
    return len(leaf) if isinstance(leaf, list) else int(leaf.shape[dim])


def samples_in(leaves: Sequence[Any], dims: Sequence[int | None]) -> int:
    """The number of samples that leaves carry."""
    return next(length(leaf, dim) for leaf, dim in zip(leaves, dims, strict=True) if dim is not None)


def shape_of(leaf: Any) -> str:
    """The shape of a leaf, for an error."""
    return f"a list of {len(leaf)}" if isinstance(leaf, list) else f"shape {tuple(leaf.shape)}"


def _count(leaves: Sequence[Any], layout: Layout) -> int:
    first: tuple[str, Any, int] | None = None
    for leaf, label, dim in zip(leaves, layout.names, layout.dims, strict=True):
        if dim is None:
            continue
        n = length(leaf, dim)
        if n == 0:
            raise BatchproofError(f"the batch is empty: argument {label} has {shape_of(leaf)}; skip such a batch")
        if first is None:
            first = label, leaf, n
        elif n != first[2]:
            raise BatchproofError(
                f"argument {label} ({shape_of(leaf)}, batch dimension {dim}) has {n} samples where argument "
                f"{first[0]} ({shape_of(first[1])}) has {first[2]}; {_say_shared(label)} marks what batches share"
            )
    if first is None:
        raise BatchproofError(
            "no argument carries samples: expected a tensor, an array or a list with a batch dimension"
        )
    return first[2]


def bound(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise TypeError, as a call would, where the function does not take these arguments."""
    try:
        taken = inspect.signature(fn.forward if isinstance(fn, torch.nn.Module) else fn)
    except (TypeError, ValueError):
        return
    taken.bind(*args, **kwargs)


def parameter_names(fn: Callable[..., Any], count: int) -> list[str]:
    """The names of the first positional parameters, numbered where the function does not name them."""
    try:
        target = fn.forward if isinstance(fn, torch.nn.Module) else fn
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [plain[i] if i < len(plain) else f"#{i + 1}" for i in range(count)]


def signature(call: Batch) -> tuple[Any, ...]:
    """What must be alike for two batches to be folded by the same code."""
    parts: list[Any] = [call.layout.keywords]
    for leaf, dim in zip(call.leaves, call.layout.dims, strict=True):
        if isinstance(leaf, torch.Tensor):
            rest = tuple(leaf.shape) if dim is None else (*leaf.shape[:dim], *leaf.shape[dim + 1 :])
            parts.append((leaf.dtype, leaf.device, rest, dim))
        else:
            parts.append(type(leaf) if dim is not None else ("fixed", repr(leaf)))
    return tuple(parts)


def by_shape(calls: Sequence[Batch]) -> list[list[Batch]]:
    """Batches whose samples have one shape together, the most samples first."""
    groups: dict[Any, list[Batch]] = {}
    for call in calls:
        groups.setdefault(signature(call), []).append(call)
    return sorted(groups.values(), key=lambda group: sum(call.n for call in group), reverse=True)


def rebuild(layout: Layout, leaves: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call from its leaves."""
    values, start = [], 0
    for skeleton in layout.skeletons:
        marks, tree = pytree.tree_flatten(skeleton)
        own = zip(marks, leaves[start : start + tree.num_leaves], strict=True)
        parts = [tuple(leaf) if mark == ENTRIES else leaf for mark, leaf in own]
        values.append(trees.closed(pytree.tree_unflatten(parts, tree)))
        start += tree.num_leaves
    count = len(values) - len(layout.keywords)
    return values[:count], dict(zip(layout.keywords, values[count:], strict=True))


def keep(call: Batch) -> Batch:
    """A copy whose samples the caller can no longer change."""
    return Batch(call.layout, [copied(leaf) for leaf in call.leaves], call.n)


def copied(leaf: Any) -> Any:
    """A copy that writing into the leaf does not reach."""
    if isinstance(leaf, torch.Tensor):
        with torch.inference_mode(False):
            return leaf.detach().clone()
    if isinstance(leaf, list):
        return [copied_entry(entry) for entry in leaf]
    if trees.is_array(leaf):
        return leaf.copy()
    return leaf if trees.is_fixed(leaf) else _frozen(leaf)


def copied_entry(entry: Any) -> Any:
    """A copy of one entry of a list, which may be a container itself."""
    if trees.is_fixed(entry):
        return entry
    return pytree.tree_map(lambda leaf: copied(leaf) if not is_column(leaf) else list(leaf), entry, is_leaf=is_column)


def _frozen(thing: Any) -> Any:
    """An object that batches share, as it is now.

    Raises:
        BatchproofError: it cannot be copied, so that nothing would show a change of it.
    """
    try:
        return copy.deepcopy(thing)
    except Exception as error:
        raise BatchproofError(
            f"an argument is a {type(thing).__name__}, which cannot be copied and so cannot be held against later "
            f"batches' ({type(error).__name__}: {error}); let the function close over it"
        ) from error


def same(new: Any, old: Any) -> bool:
    """Whether what all batches share is what it was, by content."""
    with suppress(TypeError, ValueError, RuntimeError, PicklingError, AttributeError):
        return trees.same(new, old)
    return False


def join(calls: Sequence[Batch]) -> Batch:
    """Several batches as one.

    Raises:
        BatchproofError: their samples have different shapes.
    """
    first = calls[0]
    if len(calls) == 1:
        return first
    leaves: list[Any] = []
    for position, dim in enumerate(first.layout.dims):
        parts = [call.leaves[position] for call in calls]
        leaves.append(parts[0] if dim is None else _concatenate(parts, dim, first.layout.names[position]))
    return Batch(first.layout, leaves, sum(call.n for call in calls))


def _concatenate(parts: list[Any], dim: int, label: str) -> Any:
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    shapes = {(*part.shape[:dim], *part.shape[dim + 1 :]) for part in parts}
    if len(shapes) > 1:
        raise BatchproofError(
            f"argument {label} came with samples of different shapes, {' and '.join(map(str, sorted(shapes)[:3]))}: "
            "they are kept and cannot be put together; pad them to one length"
        )
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts, dim)
    import numpy

    if any(isinstance(part, numpy.ma.MaskedArray) for part in parts):
        return numpy.ma.concatenate(parts, dim)  # type: ignore[no-untyped-call]
    return numpy.concatenate(parts, dim)


def one_sample(call: Batch) -> Batch:
    """The first sample of a batch: what later batches must be like."""
    leaves = []
    for leaf, dim in zip(call.leaves, call.layout.dims, strict=True):
        if dim is None:
            leaves.append(copied(leaf))
        elif isinstance(leaf, torch.Tensor):
            leaves.append(leaf.detach().narrow(dim, 0, 1).clone())
        else:
            leaves.append(copied(leaf[:1]))
    return Batch(call.layout, leaves, 1)


def tensors_of(call: Batch) -> tuple[list[torch.Tensor], tuple[int | None, ...]]:
    """The tensors of a call and their batch dimensions; other leaves are fixed."""
    pairs = [
        (leaf, dim) for leaf, dim in zip(call.leaves, call.layout.dims, strict=True) if isinstance(leaf, torch.Tensor)
    ]
    return [leaf for leaf, _ in pairs], tuple(dim for _, dim in pairs)
