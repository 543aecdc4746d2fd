"""What a worker of Ray does: fold some of the data, merge tallies; and what travels to it and back, as bytes.

Bytes need nothing to be read: a node without batchproof can then say so, where an object could not be loaded there.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from batchproof.errors import BatchproofError
from batchproof.scoring.blocks import Block, Piece, Source
from batchproof.scoring.tally import NAN, FoldedSamples, KeptSamples, Key, Scan, Tally
from batchproof.version import VERSION


@dataclass(frozen=True)
class Report:
    """What the driver hears of a tally, which stays on the cluster.

    Attributes:
        rows: how many rows of each piece were used.
        kept: bytes of the samples that each function keeps.
    """

    rows: dict[int, int]
    kept: tuple[int, ...]


class Unseen(Exception):
    """A worker does not find a file: ``args`` are the file and the node."""


def on_any_node(work: str, errors: Literal["raise", "pair", "table"] = "raise") -> Callable[..., Any]:
    """A function of this module, for nodes on which batchproof may be missing, or be another one.

    Nothing outside of what is returned is needed until that is known: Ray then carries its code, and not its name.

    Args:
        work: the name of the function.
        errors: ``"raise"`` them.  ``"pair"``, ``"table"``: give them as bytes beside an empty tally, or in a row of a
            table. Ray logs what is raised, and Ray Data hands on its words alone.
    """
    wanted = VERSION

    def checked(*args: Any) -> Any:
        import importlib
        from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]

        from ray import cloudpickle
        from ray.util import get_node_ip_address

        try:
            try:
                version = importlib.import_module("batchproof.version").VERSION
            except ModuleNotFoundError:
                version = None
            if version != wanted:
                has = f"batchproof {version}" if version else "no batchproof"
                raise ImportError(
                    f"a worker (node {get_node_ip_address()}) has {has}: install batchproof {wanted} on every node, or "
                    f'connect with ray.init(runtime_env={{"pip": ["batchproof=={wanted}"]}})',
                    name="batchproof",
                )
            return getattr(importlib.import_module("batchproof.scoring.ray_worker"), work)(*args)
        except Exception as error:
            if errors == "raise":
                raise
            raised = cloudpickle.dumps(ExceptionWithTraceback(error, error.__traceback__))
            try:
                cloudpickle.loads(raised)
            except Exception:  # noqa: BLE001 - an error that cannot be made again from its arguments
                raised = cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
            if errors == "pair":
                return raised, b""
            import pyarrow as pa

            columns = {"tally": b"", "raised": raised}
            return pa.table({name: pa.array([value], pa.large_binary()) for name, value in columns.items()})

    return checked


def node() -> str:
    """The node that this runs on, in words."""
    from ray.util import get_node_ip_address

    return f"node {get_node_ip_address()}"


# ---------------------------------------------------------------------- the work


def fold(scan: bytes, pieces: bytes) -> tuple[Report, bytes]:
    """The tally of some pieces, read here or delivered."""
    own, task = scan_of(scan), pickle.loads(pieces)
    if isinstance(task, Delivered):
        own = replace(own, source=task)
    total = Tally.empty(own.functions)
    for piece in task.pieces if isinstance(task, Delivered) else task:
        total.absorb(_tally(own, piece))
    return _reported(total)


def _tally(scan: Scan, piece: Piece) -> Tally:
    torch.set_num_threads(1)  # a worker has one processor
    try:
        return scan.tally(piece)
    except BatchproofError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise Unseen(piece.file, node()) from error
        raise


def fold_block(scan: bytes, table: Any) -> Any:
    """The tally of a block of a Ray dataset, as a row of a table."""
    import pyarrow as pa

    own = scan_of(scan)
    block = replace(own, source=own.source.of_block(table))  # type: ignore[attr-defined]
    tally = bytes_of(_tally(block, Piece(0, "", "", table.num_rows)))
    return pa.table({name: pa.array([data], pa.large_binary()) for name, data in (("tally", tally), ("raised", b""))})


def number_blocks(scan: bytes, number: int, table: Any) -> tuple[Report | bytes, bytes]:
    """The tally of a block, of which it is known by now which one it is."""
    if not table.num_rows:  # of a block without rows, as older releases hand it on
        return _reported(replace(Tally.empty(scan_of(scan).functions), rows={number: 0}))
    (tally,), (raised,) = (table.column(name).to_pylist() for name in ("tally", "raised"))
    if raised:
        return raised, b""
    found = tally_of(tally, scan_of(scan))
    found.rows = {number: sum(found.rows.values())}
    for one in found.functions:
        if isinstance(one, KeptSamples):
            one.pieces = [number] * len(one.pieces)
        else:
            one.pieces = dict.fromkeys([number], one.pieces[0]) if one.pieces else {}
    return _reported(found)


def merge(scan: bytes, *tallies: bytes) -> bytes:
    """One tally of several."""
    own = scan_of(scan)
    total = Tally.empty(own.functions)
    for tally in tallies:
        total.absorb(tally_of(tally, own))
    return bytes_of(total)


def _reported(tally: Tally) -> tuple[Report, bytes]:
    kept = (one.nbytes if isinstance(one, KeptSamples) else 0 for one in tally.functions)
    return Report(tally.rows, tuple(kept)), bytes_of(tally)


# ---------------------------------------------------------------------- what travels


class Delivered(Source):
    """Pieces with their blocks: data in memory goes to the workers so, and only the columns that are used."""

    def __init__(self, pieces: Sequence[Piece], blocks: dict[int, list[Block]]) -> None:
        self.pieces, self.blocks = list(pieces), blocks

    def read(
        self, piece: Piece, columns: Sequence[str], keys: Sequence[str] = (), nulls: str = "error"
    ) -> Iterator[Block]:
        return iter(self.blocks[piece.number])

    def _blocks(self, piece: Piece, columns: list[str], keys: list[str], drop: bool) -> Iterator[Block]:
        return iter(self.blocks[piece.number])

    def locate(self, piece: Piece, row: int) -> str:
        raise AssertionError("these rows were read before they travelled")


class _Pickler(pickle.Pickler):
    """Tensors as arrays of numpy's: torch writes each of them as a file with an archive inside."""

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is torch.Tensor and thing.device.type == "cpu" and thing.dtype is not torch.bfloat16:
            return torch.from_numpy, (thing.detach().resolve_conj().resolve_neg().numpy(),)
        return NotImplemented


def dumps(thing: Any) -> bytes:
    """Anything without code of the user's, as bytes that `pickle` reads."""
    sink = io.BytesIO()
    _Pickler(sink, protocol=5).dump(thing)
    return sink.getvalue()


def bytes_of(tally: Tally) -> bytes:
    """A tally without its functions and their plans: whoever reads it has those."""
    return dumps(replace(tally, functions=[_bare(one) for one in tally.functions]))


def _bare(one: FoldedSamples | KeptSamples) -> Any:
    bare = replace(one, function=None)  # type: ignore[arg-type]
    if isinstance(bare, FoldedSamples) and bare.groups is not None:
        bare.groups = replace(bare.groups, plan=None)  # type: ignore[arg-type]
    return bare


def tally_of(data: bytes, scan: Scan) -> Tally:
    """A tally from its bytes, with the functions of its scan."""
    found: Tally = pickle.loads(data)
    found.keys.numbers = {_with_our_nan(key): number for key, number in found.keys.numbers.items()}
    for one, function in zip(found.functions, scan.functions, strict=True):
        one.function = function
        if isinstance(one, FoldedSamples) and one.groups is not None:
            assert function.aggregation is not None
            one.groups.plan = function.aggregation.plan
    return found


def _with_our_nan(key: Key) -> Key:
    """A key that travelled: all NaN are one where they are one object, and this is another one by now."""
    return tuple(NAN if part != part else part for part in key)


def scan_bytes(scan: Scan) -> bytes:
    """A scan, with the code of functions that workers may not be able to import."""
    from ray import cloudpickle

    modules = {module for function in scan.functions if (module := _own_module(function.fn)) is not None}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(scan))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _own_module(fn: Any) -> Any:
    """The module of a function, where that is a file of the user's and not of a package that is installed."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(inspect.unwrap(fn), "__module__", None) or type(fn).__module__
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None or name == "__main__" or name.partition(".")[0] == "batchproof":
        return None
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
    installed.add(str(Path(torch.__file__).parents[1]))
    path = os.path.realpath(file)
    return None if any(path.startswith(os.path.realpath(folder) + os.sep) for folder in installed) else module


@functools.lru_cache(maxsize=2)
def scan_of(data: bytes) -> Scan:
    """A scan from its bytes; a worker loads it once for all of its tasks.

    Raises:
        BatchproofError: a module that a function takes something from is not on this node.
    """
    try:
        found: Scan = pickle.loads(data)
    except ModuleNotFoundError as error:
        raise BatchproofError(
            f"a worker ({node()}) has no module {error.name}, which a function needs: install it on every node, or "
            'connect with ray.init(runtime_env={"working_dir": "."})'
        ) from error
    return found if found.only is None else replace(found, only=frozenset(map(_with_our_nan, found.only)))
