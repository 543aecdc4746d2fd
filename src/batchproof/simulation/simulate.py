"""The verb: draw batches of every size, and put what their values show side by side."""

from __future__ import annotations

import copy
import inspect
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.explanation import Progress
from batchproof.ground.isolation import preserved, quiet
from batchproof.ground.target import is_metric, place_of, title_of
from batchproof.ground.threads import noted
from batchproof.ground.validation import sizes_of, whole
from batchproof.simulation import published
from batchproof.simulation.chunks import Round
from batchproof.simulation.direct import DrawStates, direct_draw, pays
from batchproof.simulation.distributions import parse
from batchproof.simulation.population import as_errors, listed, of_errors, of_rows
from batchproof.simulation.result import Simulation
from batchproof.simulation.run import SizeOutcome, run
from batchproof.simulation.summary import summarised
from batchproof.simulation.target_function import Trial, trial_of

#: All samples of a size together, drawn or not: torch counts the bytes of what has their shape in 64 bits.
MOST_BYTES = 2**63


def rmse(errors: Tensor) -> Tensor:
    """The root mean square of a batch of errors: what is simulated where no function is given."""
    return torch.sqrt(torch.mean(errors**2))


def simulate(
    fn: Callable[..., Any] | None = None,
    errors: str | Tensor | Sequence[Any] = "normal",
    batch_sizes: Iterable[int] | None = None,
    batches: int = 10_000,
    seed: int = 0,
    *,
    scale: float = 100.0,
    direct: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """The value on all samples together, and the mean of per-batch values, for batches of many sizes.

    >>> import batchproof
    >>> found = batchproof.simulate(batch_sizes=[1, 16], batches=2000)
    >>> for row in found.rows:
    ...     print(f"{row.size:2}  {row.mean.expected:.2f} of {row.pooled.expected:.2f}: {row.shortfall:.1%} low")
     1  79.79 of 99.99: 20.2% low
    16  98.45 of 100.00: 1.5% low
    >>> all(abs(row.mean.deviations) < 5 for row in found.rows)
    True

    For each size that many batches are drawn. Every number comes with its standard error, and with the value expected
    of it where theory gives one.

    Args:
        fn: a function of errors, or of a prediction and a target, that returns numbers; a metric object; the root mean
            square of the errors if None. What takes other arguments (class labels) is given samples that are guessed
            from its parameters' names.
        errors: ``"normal"``, ``"laplace"``, ``"t"`` or ``"t:5"`` (degrees of freedom), ``"uniform"``, ``"lognormal"``
            or ``"lognormal:0.5"`` (sigma); or your own samples, to be drawn with replacement: a tensor, or one for
            each parameter of ``fn``.
        batch_sizes: samples in a batch; 1, 2, 3, 5, 9, 10, 100, ... 100,000 if None.
        batches: how many batches of each size.
        seed: the same seed gives the same numbers, on any number of threads.
        scale: what the standard distribution is multiplied by (normal: the standard deviation).
        direct: draw the state of a batch instead of its samples where the state's distribution is known.
        threads: that draw; as many as there are processors if None.
        progress: called with a word, a count and a total during long work.

    Returns:
        A `Simulation`. After Ctrl-C it holds what was done until then.

    Raises:
        BatchproofError: an argument makes no sense, the function is random, or its value cannot be had.
    """
    started = time.perf_counter()
    sizes, workers = _sizes(batch_sizes), _processors() if threads is None else whole(threads, "threads", 1)
    batches, seed = whole(batches, "batches", 1), whole(seed, "seed", None)
    with preserved(fn), quiet(fn or rmse), _single_threaded(), noted() as check:
        trial, draw = _trial(fn, errors, scale, direct)
        if batches * sizes[-1] * math.ceil(trial.population.sample_bytes) >= MOST_BYTES:
            raise BatchproofError(f"{batches:,} batches of {sizes[-1]:,} samples are more than can be counted")
        outcomes, interrupted = _outcomes(trial, draw, sizes, batches, seed, workers, progress, check)
        return summarised(
            trial,
            outcomes,
            batches,
            seed,
            place_of(fn) if fn is not None else None,
            is_question=fn is None,
            interrupted=interrupted,
            seconds=time.perf_counter() - started,
        )


def _trial(
    fn: Callable[..., Any] | None, errors: str | Tensor | Sequence[Any], scale: float, direct: bool
) -> tuple[Trial, DrawStates | None]:
    """The function with what its batches are drawn from, and what draws states, where their distribution is known."""
    function, title = _as_function(rmse if fn is None else fn), title_of(rmse if fn is None else fn)
    if isinstance(errors, str):
        population = of_errors(function, parse(errors, scale))
    else:
        rows = listed(errors)
        population = of_rows(function, title, rows if fn is not None else [as_errors(rows)])
    trial = trial_of(function, title, population)
    return trial, direct_draw(trial) if direct else None


def _outcomes(
    trial: Trial,
    draw: DrawStates | None,
    sizes: Sequence[int],
    batches: int,
    seed: int,
    threads: int,
    progress: Progress | None,
    check: Callable[[], None],
) -> tuple[list[SizeOutcome], bool]:
    """One size after the other, and whether Ctrl-C ended it."""
    direct = {size: draw if draw is not None and pays(trial.population, size) else None for size in sizes}
    work = {size: (1 if direct[size] is not None else size) for size in sizes}
    total, done = batches * sum(work.values()), 0
    outcomes: list[SizeOutcome] = []
    for size in sizes:

        def advance(more: int, size: int = size) -> None:
            nonlocal done
            done = min(done + more * work[size], total)
            if progress is not None:
                progress(f"batches of {size:,}", done, total)
            check()

        try:
            advance(0)
            outcomes.append(run(trial, Round(size, batches, seed, threads), direct[size], advance, check))
        except KeyboardInterrupt:
            if not outcomes:
                raise
            return outcomes, True
        if outcomes[-1].interrupted:
            return outcomes, True
    return outcomes, False


def _as_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A metric object as a function of one batch; a fresh copy is updated and computed on each."""
    if not is_metric(fn):
        if not callable(fn):
            raise BatchproofError(f"simulate takes a function or a metric object, not {type(fn).__name__}")
        return fn
    metric: Any = fn

    def value(*args: Any, **kwargs: Any) -> Any:
        fresh = copy.deepcopy(metric)
        fresh.reset()
        fresh.update(*args, **kwargs)
        return fresh.compute()

    value.__signature__ = inspect.signature(metric.update)  # type: ignore[attr-defined]
    return value


def _sizes(given: Any) -> list[int]:
    if given is None:
        return list(published.SIZES)
    return sorted(sizes_of(given, "simulate"))


def _processors() -> int:
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


@contextmanager
def _single_threaded() -> Iterator[None]:
    """torch's own threads would add in another order, and so round otherwise, with another number of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
