"""What a function returned, as a row of named float64 numbers."""

from __future__ import annotations

import itertools
import numbers
from typing import Any

import torch
from torch.utils._pytree import keystr, tree_flatten_with_path

from batchproof.errors import BatchproofError
from batchproof.ground.trees import is_array

MOST = 64


def tensors(result: Any) -> list[tuple[str, torch.Tensor]]:
    """The numeric leaves of a result, each with its path: ``""``, ``[0]``, ``['loss']``."""
    return [(path, _tensor(leaf)) for path, leaf in leaves(result)]


def _tensor(leaf: Any) -> torch.Tensor:
    """Python's own numbers are in double precision."""
    wide = torch.float64 if isinstance(leaf, float) else torch.complex128 if isinstance(leaf, complex) else None
    return torch.as_tensor(leaf, dtype=wide).detach()


def leaves(result: Any) -> list[tuple[str, Any]]:
    """The numbers of a result as they are: the very tensors that were returned."""
    found = tree_flatten_with_path(result)[0]
    return [(keystr(path), leaf) for path, leaf in found if is_numeric(leaf)]


def is_numeric(leaf: Any) -> bool:
    """Whether a leaf of a result holds numbers."""
    return isinstance(leaf, (torch.Tensor, numbers.Number)) or is_array(leaf)


def names(result: Any) -> list[str]:
    """The name of each number in a result, for the first `MOST` of them."""
    found: list[str] = []
    for path, tensor in tensors(result):
        for index in itertools.product(*map(range, tensor.shape)):
            name = path + (f"[{', '.join(map(str, index))}]" if index else "")
            found += [f"{name}.real", f"{name}.imag"] if tensor.is_complex() else [name]
            if len(found) >= MOST:
                return found[:MOST]
    return found


def values(result: Any) -> torch.Tensor:
    """The first `MOST` numbers of a result, in one row."""
    parts = [_flat(tensor) for _, tensor in tensors(result)]
    if not parts:
        raise BatchproofError(f"returned {type(result).__name__}: there is no number in it to average")
    return torch.cat(parts)[:MOST]


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.reshape(-1)[:MOST].to("cpu", torch.float64)
