"""score: the exact values of functions on a data set that need not fit into memory, for the whole and by group."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.ground.target import is_metric, name_of, required
from batchproof.ground.text import counted, size_of
from batchproof.ground.threads import in_threads, noted
from batchproof.scoring import ray_engine
from batchproof.scoring.blocks import Piece, Source
from batchproof.scoring.columns import match_columns
from batchproof.scoring.conclude import Progress, conclude
from batchproof.scoring.function import ScoredFunction, prepare
from batchproof.scoring.ray_dataset import RayDataset
from batchproof.scoring.result import Over, Scores
from batchproof.scoring.source import open_source
from batchproof.scoring.tally import KeptSamples, Scan, Tally

Functions = Callable[..., Any] | Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]]

#: Pieces that one thread folds into one tally: merging tallies costs by the group.
TOGETHER = 4
#: Of the memory that is free, what kept samples may take: joining them takes as much again.
MOST_OF_MEMORY = 0.4


def score(
    data: Any,
    fn: Functions,
    *,
    by: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    over: Over = "dataset",
    nulls: str = "error",
    threads: int | None = None,
    engine: str = "local",
    progress: Progress | None = None,
) -> Scores:
    """The exact value of a function on all samples of a data set, with its standard error, and by group.

    The data is read in pieces, and only the columns that the function takes: a state of constant size is all that is
    held, for the whole and for each group. What averaging the files would have said stands beside it.

    >>> import batchproof, torch
    >>> def rmse(pred, real):
    ...     return torch.sqrt(torch.mean((pred - real) ** 2))
    >>> data = {"pred": torch.tensor([1.0, 2.0, 5.0]), "real": torch.tensor([1.0, 4.0, 4.0])}
    >>> round(batchproof.score(data, rmse).value, 4)
    1.291

    Args:
        data: a path, a folder or a glob of parquet, feather, csv, tsv, npz, npy or pt files; or a pyarrow table or
            dataset, a pandas or polars frame, a Hugging Face or Ray dataset, or arrays by name.
        fn: a function of tensors, samples first, whose parameters are named like columns; or several, as a list or by
            name: they share a pass.
        by: columns to group by; each group has a value of its own.
        columns: for parameters that are named otherwise, their columns.
        over: ``"dataset"``: the value on all samples together.  ``"samples"``: the mean of the values on single ones.
        nulls: ``"error"``: refuse a null.  ``"drop"``: leave out such samples, and count them.
        threads: how many read and fold; one per processor by default.
        engine: ``"local"``: this machine.  ``"ray"``: the Ray cluster that this process is connected to, or that of
            ``RAY_ADDRESS``, or a new one on this machine.  ``"ray://host:10001"``: the cluster there.  A Ray dataset is
            always scored on Ray.
        progress: called with a word, how many rows are done, and how many there are, None where that is not known.

    Raises:
        BatchproofError: the data cannot be read or does not fit the function, the function is refused, or it keeps its
            samples, and they would not fit into memory.
    """
    started = time.perf_counter()
    if over not in ("dataset", "samples"):
        raise BatchproofError(f"over={over!r}: expected 'dataset' or 'samples'")
    if engine not in ("local", "ray") and not engine.startswith("ray://"):
        raise BatchproofError(f"engine={engine!r}: expected 'local', 'ray', or where a cluster is, 'ray://host:10001'")
    source = open_source(data)
    keys = (by,) if isinstance(by, str) else tuple(by)
    scan = Scan(source, functions_of(source, fn, columns or {}, keys, over, nulls), keys, nulls)
    workers = threads or os.cpu_count() or 1
    shown = progress or _unseen
    with noted() as check, _single_threaded(), _cluster(engine, source) as ray:

        def read(scan: Scan) -> tuple[Tally, bool]:
            _check_memory(scan)
            if ray is not None:
                return ray_engine.gather(scan, ray, _watching(scan, shown), check)
            return gather(scan, _tallies(scan, workers, check), shown)

        tally, interrupted = read(scan)
        found = conclude(scan, tally, lambda scan: read(scan)[0], interrupted, shown)
        ran = counted(workers, "thread") if ray is None else ray_engine.title(ray)
    return replace(found, engine=ran, seconds=time.perf_counter() - started)


def _unseen(text: str, done: int, total: int | None) -> None:
    """Nobody looks."""


def functions_of(
    source: Source, fn: Functions, columns: Mapping[str, str], by: Sequence[str], over: Over, nulls: str
) -> tuple[ScoredFunction, ...]:
    """The functions, made ready by the first rows of the data.

    Raises:
        BatchproofError: there are no rows, a parameter has no column, or a function is refused.
    """
    named = _named(fn)
    parameters = {name: [parameter.name for parameter in required(one)] for name, one in named.items()}
    matched = match_columns(source, parameters, columns, by)
    blocks = (block for piece in source.pieces for block in source.read(piece, matched.columns, (), nulls))
    block = next((block for block in blocks if block.rows), None)
    if block is None:
        raise BatchproofError(f"{source.title} has no rows to score")
    return tuple(prepare(name, one, matched.by_function[name], block.tensors, over) for name, one in named.items())


def _named(fn: Functions) -> dict[str, Callable[..., Any]]:
    """Functions by their names."""
    if isinstance(fn, Mapping):
        found = dict(fn)
    elif isinstance(fn, Sequence):
        titles = [name_of(one) for one in fn]
        found = {_unlike(title, titles[:place]): one for place, (title, one) in enumerate(zip(titles, fn, strict=True))}
    else:
        found = {name_of(fn): fn}
    if not found:
        raise BatchproofError("score takes one function or several, and was given none")
    for name, one in found.items():
        if is_metric(one) or not callable(one):
            raise BatchproofError(f"score takes functions of columns, and {name} is a {type(one).__name__}")
    return found


def _unlike(title: str, others: Sequence[str]) -> str:
    return f"{title}_{others.count(title) + 1}" if title in others else title


# ---------------------------------------------------------------------- the pass


def _tallies(scan: Scan, threads: int, check: Callable[[], None]) -> Iterator[Tally]:
    """The tallies of a few pieces each, in order; read and folded in threads."""

    def work(pieces: Sequence[Piece], stop: threading.Event) -> Tally:
        found = Tally.empty(scan.functions)
        for piece in pieces:
            if not stop.is_set():
                scan.tally(piece, found)
        return found

    pieces = scan.source.pieces
    few = min(TOGETHER, max(1, len(pieces) // (4 * threads)))  # so that no thread is left alone for long at the end
    for _, tally in in_threads(work, [pieces[at : at + few] for at in range(0, len(pieces), few)], threads, check):
        yield tally


def gather(scan: Scan, tallies: Iterable[Tally], progress: Progress) -> tuple[Tally, bool]:
    """One tally of all, and whether Ctrl-C ended it: then it is that of the pieces so far."""
    total = Tally.empty(scan.functions)
    told = _by_rows(scan, progress)
    try:
        for tally in tallies:
            total.absorb(tally)
            _check_kept(total, scan)
            told(sum(total.rows.values()))
    except KeyboardInterrupt:
        if not sum(total.rows.values()):
            raise
        return total, True
    return total, False


def _known_rows(scan: Scan) -> int | None:
    """How many rows there are, where all pieces say so."""
    rows = [piece.rows for piece in scan.source.pieces]
    return None if None in rows else sum(row for row in rows if row is not None)


def _by_rows(scan: Scan, progress: Progress) -> Callable[[int], None]:
    """What is told how many rows are done, and shows how fast that was."""
    known, start = _known_rows(scan), time.perf_counter()
    progress("reading", 0, known)

    def told(rows: int) -> None:
        speed = rows / max(time.perf_counter() - start, 1e-9)
        progress(f"{speed / 1e6:.1f} million rows per second", rows, known)

    return told


def _cluster(engine: str, source: Source) -> AbstractContextManager[Any]:
    """Ray, connected; None where this machine is enough."""
    if engine == "local" and not isinstance(source, RayDataset):
        return nullcontext()
    return ray_engine.cluster("ray" if engine == "local" else engine)


def _watching(scan: Scan, progress: Progress) -> ray_engine.Watch:
    """What `gather` does with each tally, where the tallies stay elsewhere."""
    known, told = _known_rows(scan), _by_rows(scan, progress)

    def watch(rows: int, kept: Sequence[int]) -> None:
        for function, nbytes in zip(scan.functions, kept, strict=True):
            if known is None and nbytes:
                _refuse(function, nbytes, rows)
        told(rows)

    return watch


class _single_threaded:
    """Pieces are folded side by side: an operation has one thread then."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *raised: object) -> None:
        torch.set_num_threads(self.before)


# ---------------------------------------------------------------------- memory


def _check_memory(scan: Scan) -> None:
    """Refuse before reading what would not fit: samples that a function needs all together."""
    rows = sum(piece.rows or 0 for piece in scan.source.pieces)
    for function in () if scan.only is not None else scan.functions:
        if function.aggregation is None:
            _refuse(function, rows * function.row_nbytes, rows)


def _check_kept(tally: Tally, scan: Scan) -> None:
    """Refuse while reading, where the number of rows was not known."""
    for one in tally.functions:
        if isinstance(one, KeptSamples) and any(piece.rows is None for piece in scan.source.pieces):
            _refuse(one.function, one.nbytes, sum(tally.rows.values()))


def _refuse(function: ScoredFunction, nbytes: int, rows: int) -> None:
    free = _free_memory()
    if nbytes > MOST_OF_MEMORY * free:
        raise BatchproofError(
            f"{function.name} keeps its samples ({function.reason}): {rows:,} rows take {size_of(nbytes)}, and as "
            f"much again to join them; {size_of(free)} are free. Score fewer rows, or a function with a state"
        )


def _free_memory() -> int:
    """Bytes that this machine can still give away; all that it has where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(free.split()[1])
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62
