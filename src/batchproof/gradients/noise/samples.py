"""The samples of a data set, and how to make a batch of any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from batchproof.errors import BatchproofError
from batchproof.ground.text import first_line

Pick = Callable[[Sequence[int]], Any]


@dataclass(frozen=True)
class NumberedSamples:
    """``n`` samples; ``pick`` makes a batch of those with the given numbers."""

    n: int
    pick: Pick


def samples_of(data: Any) -> NumberedSamples:
    """The samples of tensors, of a dataset, of a loader, or of batches that are given one after the other.

    A loader's dataset and its way of making batches are used, and not its batch size: that is what is varied here.

    Raises:
        BatchproofError: there are no samples in it, or they do not belong together.
    """
    if isinstance(data, DataLoader) and data.batch_size is not None and not isinstance(data.dataset, IterableDataset):
        if isinstance(data.dataset, TensorDataset) and data.collate_fn is default_collate:
            return _columns(data.dataset.tensors)
        return _items(data.dataset, data.collate_fn)
    if isinstance(data, Tensor):
        return _columns(data)
    if isinstance(data, TensorDataset):
        return _columns(data.tensors)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return _items(data, default_collate)
    if isinstance(data, (tuple, list)) and data and all(isinstance(part, Tensor) for part in data):
        return _columns(tuple(data))
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, dict)):
        return _columns(_joined(list(data)))
    raise BatchproofError(
        f"data is tensors (inputs, target), a Dataset, a DataLoader, or batches, and not a {type(data).__name__}"
    )


def _columns(batch: Any) -> NumberedSamples:
    """All samples as one large batch."""
    leaves, tree = pytree.tree_flatten(batch)
    lengths = {len(leaf) if isinstance(leaf, Tensor) and leaf.ndim else None for leaf in leaves}
    if len(lengths) != 1 or None in lengths:
        shapes = ", ".join(str(tuple(leaf.shape)) if isinstance(leaf, Tensor) else repr(leaf)[:30] for leaf in leaves)
        raise BatchproofError(f"the data's parts do not have one row for each sample: {shapes or 'there are none'}")

    def pick(numbers: Sequence[int]) -> Any:
        chosen = torch.as_tensor(numbers, dtype=torch.long)
        return pytree.tree_unflatten([leaf[chosen.to(leaf.device)] for leaf in leaves], tree)

    return NumberedSamples(len(leaves[0]), pick)


def _items(dataset: Any, collate: Callable[[list[Any]], Any]) -> NumberedSamples:
    if not hasattr(dataset, "__len__"):
        raise BatchproofError(f"{type(dataset).__name__} has no length: give its samples as tensors or batches")
    return NumberedSamples(len(dataset), lambda numbers: collate([dataset[number] for number in numbers]))


def _joined(batches: list[Any]) -> Any:
    """Batches as one: leaf by leaf, one after the other."""
    if not batches:
        raise BatchproofError("the data is empty: there is no batch in it")
    flat = [pytree.tree_flatten(list(batch) if isinstance(batch, tuple) else batch) for batch in batches]
    leaves, trees = zip(*flat, strict=True)
    tensors = all(isinstance(leaf, Tensor) and leaf.ndim for of_batch in leaves for leaf in of_batch)
    if not leaves[0] or not tensors or any(tree != trees[0] for tree in trees):
        raise BatchproofError("every batch must hold tensors, the same parts in each, with one row for each sample")
    try:
        return pytree.tree_unflatten([torch.cat(parts) for parts in zip(*leaves, strict=True)], trees[0])
    except (RuntimeError, TypeError) as error:
        raise BatchproofError(f"the batches cannot be joined: {first_line(error)}") from error


def on_device(batch: Any, device: torch.device) -> Any:
    """The batch where the model is."""
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, batch)
