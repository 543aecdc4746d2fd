"""score: the exact values of functions on a data set that need not fit into memory, for the whole and by group."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.ground.target import name_of, place_of, required
from batchproof.ground.text import counted, size_of
from batchproof.ground.threads import in_threads, noted
from batchproof.scoring import values
from batchproof.scoring.blocks import Piece, Source
from batchproof.scoring.columns import match_columns
from batchproof.scoring.result import Averaged, GroupScore, Number, Over, Scores
from batchproof.scoring.source import open_source
from batchproof.scoring.subject import Subject, prepare
from batchproof.scoring.tally import Job, Kept, Tally

Progress = Callable[[str, int, int | None], None]
Functions = Callable[..., Any] | Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]]

#: Of the memory that is free, what kept samples may take: joining them takes as much again.
MOST_OF_MEMORY = 0.4
#: The values of more pieces than this are not averaged.
MOST_PIECES = 20_000


def score(
    data: Any,
    fn: Functions,
    *,
    by: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    over: Over = "dataset",
    nulls: str = "error",
    threads: int | None = None,
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
        progress: called with a word, how many rows are done, and how many there are, None where that is not known.

    Raises:
        BatchproofError: the data cannot be read or does not fit the function, the function is refused, or it keeps its
            samples, and they would not fit into memory.
    """
    started = time.perf_counter()
    if over not in ("dataset", "samples"):
        raise BatchproofError(f"over={over!r}: expected 'dataset' or 'samples'")
    source = open_source(data)
    keys = (by,) if isinstance(by, str) else tuple(by)
    job = Job(source, subjects_of(source, fn, columns or {}, keys, over, nulls), keys, nulls)
    _check_memory(job)
    workers = threads or os.cpu_count() or 1
    shown = progress or _unseen
    with noted() as check, _single_threaded():
        tally, interrupted = gather(job, lambda: _tallies(job, workers, check), shown)
    return conclude(job, tally, counted(workers, "thread"), interrupted, started, shown)


def _unseen(text: str, done: int, total: int | None) -> None:
    """Nobody looks."""


def subjects_of(
    source: Source, fn: Functions, columns: Mapping[str, str], by: Sequence[str], over: Over, nulls: str
) -> tuple[Subject, ...]:
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
        if not callable(one):
            raise BatchproofError(f"score takes functions, and {name} is a {type(one).__name__}")
    return found


def _unlike(title: str, others: Sequence[str]) -> str:
    return f"{title}_{others.count(title) + 1}" if title in others else title


# ---------------------------------------------------------------------- the pass


def _tallies(job: Job, threads: int, check: Callable[[], None]) -> Iterator[Tally]:
    """The tally of each piece, in order; read and folded in threads."""
    for _, tally in in_threads(lambda piece, stop: job.tally(piece), job.source.pieces, threads, check):
        yield tally


def gather(job: Job, tallies: Callable[[], Iterable[Tally]], progress: Progress) -> tuple[Tally, bool]:
    """One tally of all, and whether Ctrl-C ended it: then it is that of the pieces so far."""
    total = Tally.empty(job.subjects)
    rows = [piece.rows for piece in job.source.pieces]
    known = None if None in rows else sum(row for row in rows if row is not None)
    progress("reading", 0, known)
    try:
        for tally in tallies():
            total.absorb(tally)
            _check_kept(total, job)
            progress("scored", sum(total.rows.values()), known)
    except KeyboardInterrupt:
        if not sum(total.rows.values()):
            raise
        return total, True
    return total, False


class _single_threaded:
    """Pieces are folded side by side: an operation has one thread then."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *raised: object) -> None:
        torch.set_num_threads(self.before)


# ---------------------------------------------------------------------- memory


def _check_memory(job: Job) -> None:
    """Refuse before reading what would not fit: samples that a function needs all together."""
    rows = sum(piece.rows or 0 for piece in job.source.pieces)
    for subject in job.subjects:
        if subject.aggregation is None:
            _refuse(subject, rows * subject.row_nbytes, rows)


def _check_kept(tally: Tally, job: Job) -> None:
    """Refuse while reading, where the number of rows was not known."""
    for one in tally.subjects:
        if isinstance(one, Kept) and any(piece.rows is None for piece in job.source.pieces):
            _refuse(one.subject, one.nbytes, sum(tally.rows.values()))


def _refuse(subject: Subject, nbytes: int, rows: int) -> None:
    free = _free_memory()
    if nbytes > MOST_OF_MEMORY * free:
        raise BatchproofError(
            f"{subject.name} keeps its samples ({subject.reason}): {rows:,} rows take {size_of(nbytes)}, and as "
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


# ---------------------------------------------------------------------- the result


def conclude(job: Job, tally: Tally, engine: str, interrupted: bool, started: float, progress: Progress) -> Scores:
    """From what was folded to the result.

    Raises:
        BatchproofError: no rows were left, or a function has no value on them.
    """
    rows = sum(tally.rows.values())
    if not rows:
        why = f": all {tally.dropped:,} rows hold a null" if tally.dropped else ""
        raise BatchproofError(f"{job.source.title} has no rows to score{why}")
    pieces = [piece for piece in job.source.pieces if tally.rows.get(piece.number)]
    numbers: list[Number] = []
    for one in tally.subjects:
        numbers += _numbers(one, pieces)
    groups, raised = _groups(job, tally, progress) if job.by else ((), ())
    return Scores(
        data=job.source.title,
        numbers=tuple(numbers),
        rows=rows,
        over=job.subjects[0].over,
        by=job.by,
        groups=groups,
        columns=tuple(_given(subject) for subject in job.subjects),
        pieces=len(pieces),
        dropped=tally.dropped,
        not_a_number=tally.not_a_number,
        engine=engine,
        raised=raised,
        interrupted=interrupted,
        seconds=time.perf_counter() - started,
    )


def _numbers(one: Any, pieces: Sequence[Piece]) -> Iterator[Number]:
    subject: Subject = one.subject
    whole = values.whole(one)
    averaged = _averaged(one, pieces, whole.values[0].tolist())
    for place, component in enumerate(subject.components):
        yield Number(
            function=subject.name,
            component=component,
            value=float(whole.values[0, place]),
            standard_error=float(whole.errors[0, place]),
            averaged=averaged[place] if averaged else None,
            place=place_of(subject.fn),
            kept=subject.reason if isinstance(one, Kept) else "",
        )


def _averaged(one: Any, pieces: Sequence[Piece], whole: Sequence[float]) -> list[Averaged]:
    """What averaging the pieces would have said; of one piece alone, equal parts of it."""
    if len(pieces) > MOST_PIECES:
        return []
    files: dict[str, list[int]] = {}
    for piece in pieces:
        files.setdefault(piece.file, []).append(piece.number)
    if len(files) > 1:
        found, what = values.by_piece(one, list(files.values())), "files"
    elif len(pieces) > 1:
        found, what = values.by_piece(one, [[piece.number] for piece in pieces]), _kind_of(pieces[0])
    else:
        found, what = values.by_part(one), "equal parts"
    if len(found.values) < 2:
        return []
    means = found.values.mean(0).tolist()
    return [
        Averaged(what, len(found.values), mean, (mean - value) / abs(value) if value else math.nan)
        for mean, value in zip(means, whole, strict=True)
    ]


def _kind_of(piece: Piece) -> str:
    """What the pieces of a file are called: ``row groups`` for ``row group 3``."""
    words = piece.part.rstrip("0123456789 ")
    return f"{words}s" if words else "parts"


def _groups(job: Job, tally: Tally, progress: Progress) -> tuple[tuple[GroupScore, ...], tuple[str, ...]]:
    """A row for each group, in the order of their keys; and what functions raised on groups."""
    count = len(tally.keys)
    found = [
        values.by_group(one, count, lambda done, total: progress("finishing groups", done, total))
        for one in tally.subjects
    ]
    numbers = torch.cat([one.values for one in found], 1).tolist()
    errors = torch.cat([one.errors for one in found], 1).tolist()
    sizes = _sizes(tally, count)
    groups = [
        GroupScore(key, sizes[at], tuple(numbers[at]), tuple(errors[at])) for key, at in tally.keys.numbers.items()
    ]
    raised = tuple(
        f"{subject.name} has no value on {len(one.raised):,} of {count:,} groups: {next(iter(one.raised.values()))}"
        for subject, one in zip(job.subjects, found, strict=True)
        if one.raised
    )
    return tuple(sorted(groups, key=lambda group: _order(group.key))), raised


def _sizes(tally: Tally, count: int) -> list[int]:
    one = tally.subjects[0]
    if isinstance(one, Kept):
        group = torch.cat([groups for groups in one.groups if groups is not None])
        return torch.bincount(group, minlength=count).tolist()
    assert one.groups is not None
    places = torch.arange(count * one.group_cells) // one.group_cells
    counts = torch.zeros(count, dtype=torch.int64).scatter_add_(0, places, one.groups.counts[: len(places)])
    return counts.tolist()


def _order(key: Sequence[Any]) -> tuple[tuple[bool, str, Any], ...]:
    """Keys of one type in their own order, those without a value last."""
    return tuple((part is None or part != part, type(part).__name__, "" if part is None else part) for part in key)


def _given(subject: Subject) -> str:
    names = [parameter.name for parameter in required(subject.fn)]
    names = names if len(names) == len(subject.columns) else ["" for _ in subject.columns]
    pairs = zip(names, subject.columns, strict=True)
    return f"{subject.name}({', '.join(_pair(name, own) for name, own in pairs)})"


def _pair(name: str, columns: str | tuple[str, ...]) -> str:
    shown = columns if isinstance(columns, str) else f"[{columns[0]} … {columns[-1]}]"
    return shown if name in ("", shown) else f"{name}={shown}"
