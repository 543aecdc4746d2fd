"""The values of a function on single samples, for means over samples (PSNR or Dice per image)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.ground.batch import Batch, Layout, copied, rebuild
from batchproof.ground.trees import is_array
from batchproof.metric.fingerprints import sample_print


@dataclass
class SampleValues:
    """One value per sample, for each leaf of what the function returns."""

    columns: list[torch.Tensor]
    tree: Any  # what the function returns, every leaf a zero
    types: list[Any]
    sample: Batch | None = None  # the first one of all, by which a saved state knows its function

    def mean(self) -> Any:
        """Their mean, in the type that the function returns."""
        return self.typed([column.mean(0) for column in self.columns])

    def typed(self, means: list[torch.Tensor]) -> Any:
        """Means in the types that the function returns."""
        leaves = [
            mean.to(kind) if isinstance(kind, torch.dtype) else float(mean)
            for mean, kind in zip(means, self.types, strict=True)
        ]
        return pytree.tree_unflatten(leaves, pytree.tree_structure(self.tree))

    def described(self, fn: Callable[..., Any]) -> dict[str, Any]:
        """What the function returns and what it does to a sample, in plain containers."""
        types = [kind if isinstance(kind, torch.dtype) else "float" for kind in self.types]
        assert self.sample is not None
        return {
            "tree": self.tree,
            "types": types,
            "layout": self.sample.layout.described(),
            "sample": [copied(leaf) for leaf in self.sample.leaves],
            "function": sample_print(fn, self.sample),
        }

    @classmethod
    def of(cls, described: dict[str, Any], fn: Callable[..., Any]) -> SampleValues:
        """What was saved.

        Raises:
            BatchproofError: the function does something else to the saved sample than the one that was saved.
        """
        sample = Batch(Layout.of(described["layout"]), [copied(leaf) for leaf in described["sample"]], 1)
        if described["function"] != sample_print(fn, sample):
            raise BatchproofError(
                "the saved state does not fit: it belongs to another function, or to one whose numbers (a threshold, "
                "an exponent, a unit) or weights were others"
            )
        return cls([], described["tree"], [float if kind == "float" else kind for kind in described["types"]], sample)

    def detached(self) -> Batch:
        """The values as a batch, to be averaged."""
        count = len(self.columns)
        layout = Layout(([0] * count,), tuple(f"value {i + 1}" for i in range(count)), (0,) * count, ())
        return Batch(layout, [column.detach() for column in self.columns], len(self.columns[0]))


def mean_of_each(columns: list[torch.Tensor]) -> list[torch.Tensor]:
    """What is streamed: the mean over samples of each column."""
    return [column.mean(0) for column in columns]


def per_sample(fn: Callable[..., Any], call: Batch) -> SampleValues:
    """The function's value on every sample alone, as a batch of one.

    Raises:
        BatchproofError: it returns something else than numbers and tensors, or of another shape for each sample; or it
            draws random numbers.
    """
    before = torch.get_rng_state()
    rows = []
    tree = None
    for i in range(call.n):
        leaves = [
            leaf if dim is None else _one(leaf, dim, i) for leaf, dim in zip(call.leaves, call.layout.dims, strict=True)
        ]
        args, kwargs = rebuild(call.layout, leaves)
        value = fn(*args, **kwargs)
        tree = pytree.tree_map(lambda leaf: 0, value)
        rows.append(pytree.tree_leaves(value))
    if not torch.equal(before, torch.get_rng_state()):
        torch.set_rng_state(before)
        raise BatchproofError("the function is random: it draws from torch's generator; no value can be exact")
    columns, types = [], []
    for position in range(len(rows[0])):
        parts = [row[position] for row in rows]
        types.append(_mean_type(parts[0]))
        tensors = [torch.as_tensor(part) for part in parts]
        if any(tensor.shape != tensors[0].shape for tensor in tensors):
            raise BatchproofError("over='samples': the function's value has another shape for each sample")
        column = torch.stack(tensors)
        columns.append(column if column.dtype.is_floating_point or column.dtype.is_complex else column.double())
    return SampleValues(columns, tree, types)


def _mean_type(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        whole = not (leaf.dtype.is_floating_point or leaf.dtype.is_complex)
        return torch.get_default_dtype() if whole else leaf.dtype
    if isinstance(leaf, (int, float)) or is_array(leaf):
        return float
    raise BatchproofError(f"over='samples': the function returns a {type(leaf).__name__}, which has no mean")


def _one(leaf: Any, dim: int, i: int) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.narrow(dim, i, 1).clone()  # the function may write into it
    return copied(leaf[i : i + 1]) if dim == 0 else leaf.take([i], dim)
