"""Ray as an engine: tasks over groups of pieces, and a tree of merges in the order of the data.

Which pieces go into one task, and which tallies are merged, depends on the data alone: so the value is the same, to the
last digit, on any number of nodes, and after a node was lost and its tasks ran again elsewhere.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.text import counted, first_line
from batchproof.scoring.blocks import Piece
from batchproof.scoring.ray_dataset import RayDataset
from batchproof.scoring.ray_worker import Delivered, Report, Unseen, dumps, on_any_node, scan_bytes, tally_of
from batchproof.scoring.tally import Scan, Tally

#: Rows that a task folds, a second of work or less: little is lost with a node, and progress shows.
TASK_ROWS = 1 << 22
#: Pieces that nobody knows the rows of are in at most so many tasks.
MOST_TASKS = 10_000
#: Tallies that one task merges.
WIDTH = 8
#: A task runs again so many times where its worker or its node is lost.
RETRIES = 5
#: Tasks that are under way for each processor of the cluster: merges do not wait behind all of the data then.
AHEAD = 2

#: Seconds that a cluster has to answer.
PATIENCE = 10

#: Called with how many rows are done, and the bytes of samples that each function keeps; it may raise.
Watch = Callable[[int, Sequence[int]], None]
#: Called while waiting; it raises KeyboardInterrupt once Ctrl-C was pressed.
Check = Callable[[], None]


# ---------------------------------------------------------------------- the cluster


@contextmanager
def cluster(engine: str) -> Iterator[Any]:
    """Ray's package, connected: to the cluster of this process or of an address, or to a new one on this machine.

    Args:
        engine: ``"ray"``, or that of a cluster, as ``"ray://host:10001"``.

    Raises:
        BatchproofError: Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise BatchproofError('Ray is not installed: pip install "batchproof[ray]"') from error
    if ray.is_initialized():
        if engine != "ray":
            raise BatchproofError(f"this process is connected to a Ray cluster already: use engine 'ray', not {engine}")
        yield ray
        return
    _connect(ray, engine)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, engine: str) -> None:
    address = os.environ.get("RAY_ADDRESS", "") if engine == "ray" else engine
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    try:
        if colon and port.isdecimal():  # Ray itself asks for minutes where nobody listens
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        ray.init(engine if engine != "ray" else None, log_to_driver=False, logging_level="ERROR")
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        raise BatchproofError(f"no Ray cluster answers at {address or 'this machine'}: {first_line(error)}") from error


def title(ray: Any) -> str:
    """``Ray, 4 nodes``."""
    return f"Ray, {counted(sum(node['Alive'] for node in ray.nodes()), 'node')}"


# ---------------------------------------------------------------------- the pass


def gather(scan: Scan, ray: Any, watch: Watch, check: Check) -> tuple[Tally, bool]:
    """One tally of all, and whether Ctrl-C ended it: then it is that of the rows so far.

    Raises:
        BatchproofError: the data cannot be read or does not fit the function, here or on a worker.
    """
    source = scan.source
    data = ray.put(_travelling(scan))
    if isinstance(source, RayDataset):
        tasks = _number_blocks(scan, source, ray, data, check)
    else:
        tasks = _fold_pieces(scan, ray, data)
    finished = _finished(ray, tasks, check)
    merge = _remote(ray, "merge")
    tree = Tree(lambda tallies: merge.remote(data, *tallies))
    rows: dict[int, int] = {}
    total, kept, interrupted = 0, [0] * len(scan.functions), False
    try:
        try:
            for number, report, tally in finished:
                tree.add(number, tally)
                rows |= report.rows
                total += sum(report.rows.values())
                kept = [sum(pair) for pair in zip(kept, report.kept, strict=True)]
                watch(total, kept)
        except KeyboardInterrupt:
            interrupted = True
            if not total:
                raise
        if isinstance(source, RayDataset):
            source.set_blocks(rows)
        return tally_of(ray.get(tree.root()), scan), interrupted
    except Exception as error:
        found = explained(error)
        if found is error:
            raise
        raise found from error
    finally:
        finished.close()
        tasks.close()


def _travelling(scan: Scan) -> bytes:
    """A scan for workers: with the files, and without data that is in memory."""
    source = scan.source
    if isinstance(source, RayDataset):
        return scan_bytes(replace(scan, source=source.template))
    if _is_in_memory(scan):
        if any(piece.rows is None for piece in source.pieces):
            raise BatchproofError(f"the {source.title} can be read only as a whole: give its files, or a table")
        return scan_bytes(replace(scan, source=Delivered([], {})))
    return scan_bytes(scan)


def _is_in_memory(scan: Scan) -> bool:
    return not any(piece.file for piece in scan.source.pieces)


#: The number of a task, a reference to its report, and one to its tally.
Task = tuple[int, Any, Any]


def _fold_pieces(scan: Scan, ray: Any, data: Any) -> Generator[Task]:
    """Start to fold groups of pieces; what is in memory is put into the object store when its turn comes."""
    fold = _remote(ray, "fold", pair=True)
    in_memory = _is_in_memory(scan)
    held = []  # until the end: the work of a node that is lost is done from it again
    for number, pieces in enumerate(tasks_of(scan.source.pieces)):
        task: Any = dumps(pieces)
        if in_memory:
            blocks = {
                piece.number: list(scan.source.read(piece, scan.columns, scan.by, scan.nulls)) for piece in pieces
            }
            task = ray.put(dumps(Delivered(pieces, blocks)))
            held.append(task)
        yield number, *fold.remote(data, task)


def _number_blocks(scan: Scan, source: RayDataset, ray: Any, data: Any, check: Check) -> Generator[Task]:
    """Have Ray Data fold every block, and start to number what comes."""
    number_blocks = _remote(ray, "number_blocks", pair=True)
    packed, fold = ray.get(data), on_any_node("fold_block", errors="table")
    columns = list(dict.fromkeys([*scan.columns, *scan.by]))
    blocks = source.fold_blocks(columns, partial(fold, packed))
    with ThreadPoolExecutor(1) as pool:  # a block may take long, and Ctrl-C does not wait for it
        try:
            number = 0
            while True:
                future = pool.submit(next, blocks, None)
                while not wait([future], timeout=0.1).done:
                    check()
                block = future.result()
                if block is None:
                    return
                yield number, *number_blocks.remote(data, number, block)
                number += 1
        finally:
            pool.submit(blocks.close)


def _remote(ray: Any, work: str, pair: bool = False) -> Any:
    """A function of the workers as one of Ray's, which gives one object or two.

    What is raised is retried, too: a worker whose node is lost may live long enough to raise an OSError of its own.
    """
    options = {"num_cpus": 1, "num_returns": 2 if pair else 1, "max_retries": RETRIES, "retry_exceptions": True}
    return ray.remote(**options)(on_any_node(work, errors="pair" if pair else "raise"))


def _finished(ray: Any, tasks: Generator[Task], check: Check) -> Generator[tuple[int, Report, Any]]:
    """Tasks as they end, a few under way at a time: the number of each, its report, a reference to its tally.

    Those that are under way when nobody asks any more end by themselves, a second later: `ray.cancel` aborts the whole
    process where it meets a task that just ends (2.60: "Tried to complete task that was not pending").
    """
    pending: dict[Any, tuple[int, Any]] = {}
    while True:
        most = max(4, AHEAD * int(ray.cluster_resources().get("CPU", 1)))
        for number, report, tally in islice(tasks, max(0, most - len(pending))):
            pending[report] = number, tally
        if not pending:
            return
        check()
        for report in ray.wait(list(pending), num_returns=len(pending), timeout=0.1)[0]:
            number, tally = pending.pop(report)
            said = ray.get(report)
            if isinstance(said, bytes):
                raise pickle.loads(said)
            yield number, said, tally


def tasks_of(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """The pieces that one task reads, one after another: about as many rows in each, where they are known.

    >>> [len(task) for task in tasks_of([Piece(number, "", "", 1 << 20) for number in range(10)])]
    [4, 4, 2]
    """
    found: list[list[Piece]] = []
    least, rows = -(-len(pieces) // MOST_TASKS), 0
    for piece in pieces:
        size = TASK_ROWS if piece.rows is None else piece.rows
        if not found or (rows + size > TASK_ROWS and len(found[-1]) >= least):
            found.append([])
            rows = 0
        found[-1].append(piece)
        rows += size
    return found


class Tree:
    """Items in order, merged in groups of `WIDTH` as soon as all of a group are there, and those in groups again.

    >>> tree = Tree("".join)
    >>> for number in reversed(range(20)):
    ...     tree.add(number, chr(97 + number))
    >>> tree.root()
    'abcdefghijklmnopqrst'
    """

    def __init__(self, merge: Callable[[Sequence[Any]], Any]) -> None:
        self.merge = merge
        self.levels: list[dict[int, Any]] = []

    def add(self, number: int, item: Any, level: int = 0) -> None:
        """Take in an item by its number, from 0; in any order."""
        if level == len(self.levels):
            self.levels.append({})
        here = self.levels[level]
        here[number] = item
        first = number - number % WIDTH
        group = range(first, first + WIDTH)
        if all(one in here for one in group):
            self.add(number // WIDTH, self.merge([here.pop(one) for one in group]), level + 1)

    def root(self) -> Any:
        """All items that are there, merged in order."""
        held = [
            (number * WIDTH**level, item) for level, here in enumerate(self.levels) for number, item in here.items()
        ]
        left = [item for _, item in sorted(held, key=lambda one: one[0])]
        while len(left) > 1:
            left = [self.merge(left[at : at + WIDTH]) for at in range(0, len(left), WIDTH)]
        return left[0]


# ---------------------------------------------------------------------- what went wrong


def explained(error: Exception) -> Exception:
    """What a worker raised, as it was raised there; what Ray itself raised, in a line."""
    from ray.exceptions import RayError

    found = _cause(error)
    if isinstance(found, ImportError) and found.name == "batchproof":
        return BatchproofError(str(found))
    if isinstance(found, Unseen):
        file, node = found.args
        if not Path(file).exists():
            return BatchproofError(f"{file} is gone: it was there when the files were listed")
        return BatchproofError(
            f"{file} is on this machine, and a worker ({node}) does not see it: put it where every node sees it, or "
            "give a pyarrow dataset of a storage that they share"
        )
    if isinstance(found, RayError):
        return BatchproofError(f"Ray did not finish ({type(found).__name__}): {first_line(found)}")
    return found


def _cause(error: Exception) -> Exception:
    """The error below those that Ray wraps around it."""
    from ray.exceptions import RayError

    while isinstance(error, RayError):
        below = getattr(error, "cause", None) or error.__cause__
        if not isinstance(below, Exception):
            break
        error = below
    return error
