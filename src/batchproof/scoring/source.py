"""Data of any kind as a Source: files by their path, tables and datasets of other libraries, arrays by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.scoring.blocks import BLOCK_ROWS, Block, Piece, Source

__all__ = ["BLOCK_ROWS", "Block", "Piece", "Source", "open_source"]


def open_source(data: Any) -> Source:
    """What data consists of, to be read in pieces.

    >>> import torch
    >>> source = open_source({"pred": torch.tensor([1.0, 2.0]), "user": ["a", "b"]})
    >>> source.columns
    {'pred': 'float32', 'user': 'text'}
    >>> next(source.read(source.pieces[0], ["pred"], ["user"])).tensors
    {'pred': tensor([1., 2.])}

    Args:
        data: A path, a pattern such as ``"scores/*.parquet"`` or a folder of parquet, feather, csv, tsv, npz, npy or pt
            files, or several of these; a table, record batch or dataset of pyarrow's; a frame of pandas or polars; a
            dataset of Hugging Face; anything else that has Arrow's interface; arrays or tensors by name.

    Raises:
        BatchproofError: it is none of these, cannot be read, or has no rows.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, os.PathLike)) or _holds_paths(data):
        return _open_paths(data)
    if _is_ray_dataset(data):
        from batchproof.scoring.ray_dataset import RayDataset

        return RayDataset(data)
    libraries = {kind.__module__.partition(".")[0] for kind in type(data).__mro__}
    if not libraries.isdisjoint(("pyarrow", "pandas", "polars", "datasets")) or hasattr(data, "__arrow_c_stream__"):
        from batchproof.scoring.tables import open_table

        return open_table(data, libraries)
    if isinstance(data, (Mapping, list, tuple)) or not libraries.isdisjoint(("numpy", "torch")):
        from batchproof.scoring.arrays import open_arrays

        return open_arrays(data)
    raise BatchproofError(
        f"cannot read {type(data).__name__}: give a path, a table of pyarrow, pandas or polars, a dataset of Hugging "
        "Face, or arrays by name"
    )


def _is_ray_dataset(data: Any) -> bool:
    return any((kind.__module__, kind.__name__) == ("ray.data.dataset", "Dataset") for kind in type(data).__mro__)


def _holds_paths(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and bool(data) and all(isinstance(one, (str, os.PathLike)) for one in data)


def _open_paths(data: Any) -> Source:
    from batchproof.ground.datatable import arrow
    from batchproof.scoring.listing import list_files

    listing = list_files(data)
    if listing.kind in ("npz", "npy", "pt"):
        from batchproof.scoring.arrays import open_array_files

        return open_array_files(listing)
    arrow("pyarrow.dataset", listing.files[0])
    from batchproof.scoring.files import open_files

    return open_files(listing)
