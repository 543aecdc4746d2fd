"""One batch size: the function's values on its batches, and on all of their samples together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from batchproof.derive import Diverged, State
from batchproof.explanation import Samples, together
from batchproof.metric import standard_error
from batchproof.simulation.chunks import Round
from batchproof.simulation.direct import DrawStates
from batchproof.simulation.result import How
from batchproof.simulation.strategies import (
    POOLED_SAMPLES,
    BatchValues,
    StrategyFailed,
    by_calls,
    by_direct_states,
    by_drawn_states,
)
from batchproof.simulation.target_function import Trial

T = TypeVar("T")
#: Called with the number of batches done since it was last called.
Advance = Callable[[int], None]


@dataclass(frozen=True)
class SizeOutcome:
    """One batch size, every component.

    Attributes:
        size: the batch size.
        batches: how many there were.
        how: their values came about.
        mean: of the batches' values that are finite.
        mean_error: its standard error.
        pooled: the value on all samples together.
        pooled_error: its standard error.
        ratio_error: the standard error of ``mean / pooled``, which move together.
        difference_error: the standard error of ``mean - pooled``.
        undefined: the number of batches whose value was not finite.
        pooled_samples: on how many samples ``pooled`` was taken.
        interrupted: whether Ctrl-C ended it.
    """

    size: int
    batches: int
    how: How
    mean: Tensor
    mean_error: Tensor
    pooled: Tensor
    pooled_error: Tensor
    ratio_error: Tensor
    difference_error: Tensor
    undefined: Tensor
    pooled_samples: int
    interrupted: bool


@dataclass
class BatchGroup:
    """What is kept of a group's batches: sums of their values, and their samples, as a state or as they are."""

    shift: Tensor  # near the values, so that the squares do not cancel
    count: Tensor
    total: Tensor
    squares: Tensor
    batches: int = 0
    samples_seen: int = 0
    state: State | None = None
    samples: list[Samples] = field(default_factory=list)

    @classmethod
    def near(cls, shift: Tensor) -> BatchGroup:
        """An empty group whose batches' values will lie near this."""
        return cls(shift, torch.zeros_like(shift), torch.zeros_like(shift), torch.zeros_like(shift))

    def add(self, piece: BatchValues, trial: Trial) -> None:
        """Take in the values of a chunk's batches, and what is kept of their samples."""
        finite = piece.values.isfinite()
        around = torch.where(finite, piece.values - self.shift, 0.0)
        self.count += finite.sum(0)
        self.total += around.sum(0)
        self.squares += around.square().sum(0)
        self.batches += len(piece.values)
        self.samples_seen += piece.n
        if piece.state is not None:
            self.state = piece.state if self.state is None else trial.join([self.state, piece.state])
        if piece.samples is not None and (not self.samples or self.kept + piece.n <= POOLED_SAMPLES):
            self.samples.append(piece.samples)

    @property
    def kept(self) -> int:
        """How many of its samples are kept as they are."""
        return sum(samples.n for samples in self.samples)


def run(trial: Trial, of: Round, direct: DrawStates | None, advance: Advance, check: Callable[[], None]) -> SizeOutcome:
    """Simulate batches of one size.

    Args:
        trial: the function, and where its samples come from.
        of: how many batches of which size.
        direct: what draws states, to use it.
        advance: called with the number of batches done; may raise KeyboardInterrupt.
        check: raises KeyboardInterrupt once somebody asked for the end.

    Raises:
        BatchproofError: the function's value on all samples together cannot be had.
        KeyboardInterrupt: before any batch was done; later, what is done is returned.
    """
    for how, way in _ways(trial, of, direct, check):
        try:
            return _outcome(trial, of.size, how, way(), advance)
        except StrategyFailed:
            continue
        except Diverged as refusal:  # of the value on all samples together
            trial = replace(trial, plan=None, reason=str(refusal))
            break
    return _outcome(trial, of.size, "called", by_calls(trial, of, check), advance)


def _ways(
    trial: Trial, of: Round, direct: DrawStates | None, check: Callable[[], None]
) -> Iterator[tuple[How, Callable[[], Iterator[BatchValues]]]]:
    """The ways that may lead to the values, the quickest first."""
    if direct is not None:
        yield "direct", lambda: by_direct_states(trial, direct, of)
    if trial.plan is not None:
        yield "drawn", lambda: by_drawn_states(trial, of, check)
    yield "called", lambda: by_calls(trial, of, check)


def _outcome(trial: Trial, size: int, how: How, pieces: Iterator[BatchValues], advance: Advance) -> SizeOutcome:
    groups: dict[int, BatchGroup] = {}
    interrupted = False
    try:
        for piece in pieces:
            if piece.group not in groups:
                shift = groups[0].shift if groups else torch.nan_to_num(piece.values.nanmean(0), 0.0, 0.0, 0.0)
                groups[piece.group] = BatchGroup.near(shift)
            groups[piece.group].add(piece, trial)
            advance(len(piece.values))
    except KeyboardInterrupt:
        if not groups:
            raise
        interrupted = True
    return _summary(trial, size, how, list(groups.values()), interrupted)


def _summary(trial: Trial, size: int, how: How, groups: list[BatchGroup], interrupted: bool) -> SizeOutcome:
    mean, mean_error, count = _mean(groups)
    pooled, without, samples = _pooled(trial, groups)
    means = torch.stack([_mean([*groups[:g], *groups[g + 1 :]])[0] for g in range(len(groups))])
    counts = [group.batches for group in groups]
    done = sum(counts)
    return SizeOutcome(
        size=size,
        batches=done,
        how=how,
        mean=mean,
        mean_error=mean_error,
        pooled=pooled,
        pooled_error=_jackknife(pooled, without, counts),
        ratio_error=_jackknife(mean / pooled, means / without, counts),
        difference_error=_jackknife(mean - pooled, means - without, counts),
        undefined=done - count,
        pooled_samples=samples,
        interrupted=interrupted,
    )


def _mean(groups: Sequence[BatchGroup]) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of all batches' values, its standard error, and the number of batches that have one."""
    if not groups:
        return (torch.tensor(math.nan),) * 3
    count, total, squares = (
        torch.stack([getattr(group, name) for group in groups]).sum(0) for name in ("count", "total", "squares")
    )
    around = total / count
    variance = ((squares - count * around.square()) / (count - 1)).clamp(min=0)
    return groups[0].shift + around, (variance / count).sqrt(), count


def _pooled(trial: Trial, groups: list[BatchGroup]) -> tuple[Tensor, Tensor, int]:
    """The value on all samples, (groups, components) those without one group, and the number of samples.

    Of a function that keeps samples only some are left where there are many: then values are means over groups.
    """
    states = [group.state for group in groups if group.state is not None]
    if len(states) == len(groups):
        whole = trial.join(states)
        others = [trial.join(rest) for rest in _without_one(states)]
        return trial.pooled(whole), trial.finish_states(others), whole.n
    taken = [together(group.samples) for group in groups]
    kept = sum(samples.n for samples in taken)
    complete = all(group.kept == group.samples_seen for group in groups)
    if complete and (not trial.is_pairwise or kept <= POOLED_SAMPLES):
        without = [trial.value(together(rest)) for rest in _without_one(taken)]
        return trial.value(together(taken)), _stacked(without), kept
    singly = torch.stack([trial.value(samples) for samples in taken])
    without = [torch.stack(rest).mean(0) for rest in _without_one(list(singly))]
    return singly.mean(0), _stacked(without), taken[0].n


def _stacked(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)) if values else torch.empty(0)


def _without_one(parts: Sequence[T]) -> list[list[T]]:
    """All parts but one, for each of them; nothing where there is only one."""
    return [[*parts[:i], *parts[i + 1 :]] for i in range(len(parts))] if len(parts) > 1 else []


def _jackknife(whole: Tensor, without: Tensor, counts: Sequence[int]) -> Tensor:
    """The standard error from the values without one group of batches at a time; NaN where there is one group."""
    if len(counts) < 2:
        return torch.full_like(whole, math.nan)

    def value(groups: Sequence[int]) -> Tensor:
        left_out = set(range(len(counts))) - set(groups)
        return without[left_out.pop()] if left_out else whole

    error: Tensor = standard_error(value, counts)
    return error
