"""The verb: the gradient of batches of every size beside the full one, and the gradient noise scale."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.explanation import Progress
from batchproof.gradients.noise import draw
from batchproof.gradients.noise.estimate import FEWEST, Noise, measured, noise_of, redrawn
from batchproof.gradients.noise.gradients import Gradient, TrainingProblem, dot
from batchproof.gradients.noise.headline import headline, notes
from batchproof.gradients.noise.method import ChosenMethod, choose, same, still
from batchproof.gradients.noise.ratio import NoRatio, measured_ratio, redrawn_ratio, units_of, weights_of
from batchproof.gradients.noise.result import GradientNoise, NoiseRow
from batchproof.gradients.noise.samples import samples_of
from batchproof.gradients.noise.sharded import prepare
from batchproof.ground.isolation import preserved, quiet, seed_all
from batchproof.ground.target import name_of, place_of
from batchproof.ground.threads import noted
from batchproof.ground.validation import sizes_of, whole

#: Without sizes asked for: 1, 2, 4, ... up to the data, or to this.
LARGEST = 4096


def gradient_noise(
    model: torch.nn.Module,
    loss_fn: Callable[..., Any],
    data: Any,
    *,
    batch_sizes: Iterable[int] | None = None,
    batches: int = 200,
    seed: int = 0,
    mark: int | None = None,
    forward: Callable[[Any], Any] | None = None,
    progress: Progress | None = None,
) -> GradientNoise:
    """How near a mini-batch's gradient comes to the full one, over batch sizes, and the gradient noise scale.

    >>> import torch, batchproof
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(1000, 10, generator=generator, dtype=torch.float64)
    >>> y = torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    >>> model = torch.nn.Linear(10, 1, bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.constant_(model.weight, 0.5)
    >>> found = batchproof.gradient_noise(model, torch.nn.functional.mse_loss, (x, y), batch_sizes=[1, 16, 256])
    >>> f"{found.noise_scale:.0f} ± {found.noise_scale_se:.0f}"  # for endless samples 15
    '14 ± 1'
    >>> for row in found.rows:
    ...     print(f"{row.size:3}  cosine {row.cosine.value:.2f}, progress {row.progress:.0%}")
      1  cosine 0.22, progress 7%
     16  cosine 0.76, progress 54%
    256  cosine 0.98, progress 96%

    Two things are measured. **The rows are about the given samples**: G is the gradient of all of them together, and a
    batch of b is drawn from them without replacement, as one of an epoch is. ``variance`` is ``|g - G|² / |G|²`` on
    average; where the loss is a mean over samples its expectation is exactly ``(1 - b/N) tr(S) / (b |G|²)``, S the
    covariance of the N per-sample gradients with N - 1 in its denominator (Cochran, Sampling Techniques, 3rd ed. 1977,
    theorem 2.2). **The noise scale is about what the samples were drawn from**: ``tr(Σ) / |G|²`` (McCandlish et al.
    2018, arXiv 1812.06162, equation 2.9), with ``|G|²`` freed of what the noise of N samples adds to it.

    Nothing is trained: gradients (``.grad``), weights, buffers, modes and random states are left as they were.

    Args:
        model: in the mode in which it is to be measured; the gradient is taken by its parameters that require one.
            The data goes to their device, batch by batch.
        loss_fn: of the model's output and the target; the mean over the batch. Parameters that it has itself are no
            part of the gradient.
        data: tensors (inputs, target), each with the N samples along its first dimension; a Dataset; a DataLoader, of
            which the dataset is used, not the batch size; or batches, one after the other, which are joined in memory.
            Of a batch, the last part is the target, and the others are what the model is called with.
        batch_sizes: samples in a batch, at most N; 1, 2, 4, ... if None.
        batches: how many batches of each size to draw, at most: fewer of large ones.
        seed: the same seed gives the same numbers, up to the rounding of the device.
        mark: the reader's own batch size: measured too, and pointed at.
        forward: from a batch to the arguments of ``loss_fn``, where that is not ``model(*inputs), target``:
            ``lambda batch: (model(batch["x"]).logits, batch["y"])``.
        progress: called with a word, a count and a total during long work.

    Returns:
        A `GradientNoise`. After Ctrl-C it holds what was done until then.

    Raises:
        BatchproofError: an argument makes no sense; a batch size is above N; the loss is no scalar, is the sum over the
            batch, or has no gradient; a gradient is NaN or infinite; there are fewer than 4 samples.
    """
    started = time.perf_counter()
    problem = _problem(model, loss_fn, data, forward)
    sizes = _sizes(batch_sizes, mark, problem.samples.n)
    batches, seed = whole(batches, "batches", 1), whole(seed, "seed", None)
    with (
        preserved(model), preserved(loss_fn), quiet(loss_fn), quiet(forward or loss_fn), _attributes(model),
        noted() as check,
    ):  # fmt: skip
        order = _order(problem.samples.n, seed)
        way = choose(problem, order)
        asked = _Asked(problem, sizes, batches, seed, _Shown(progress, check))
        one = _of_samples(asked, way, order)
        if one.full is None and way.method == "ratio":
            way = replace(way, method="batches", reason="the loss of some batches is no mean of that of their samples")
        rows, interrupted = _rows(asked, one.full)
    found = GradientNoise(
        target=_title(model, loss_fn),
        place=place_of(loss_fn),
        method=way.method,
        reason=way.reason,
        samples=problem.samples.n,
        parameters=sum(value.numel() for value in problem.trained.values()),
        rows=(),
        noise_scale=one.noise.scale,
        noise_scale_se=one.noise.scale_se,
        trace=one.noise.trace,
        signal=one.noise.signal,
        signal_se=one.noise.signal_se,
        gradient_norm=math.nan if one.full is None else math.sqrt(dot(one.full, one.full)),
        headline="",
        batches=batches,
        seed=seed,
        unit=one.unit,
        random=way.random,
        redrawn=one.redrawn,
        interrupted=interrupted,
        seconds=time.perf_counter() - started,
        marked=mark,
    )
    found = replace(found, rows=tuple(_with_expected(row, found.expected_variance(row.size)) for row in rows))
    return replace(found, headline=headline(found), notes=tuple(notes(found)))


@dataclass
class _Shown:
    """The work that is done, for who looks on; and Ctrl-C, acted on where nothing is half done."""

    progress: Progress | None
    check: Callable[[], None]
    done: int = 0

    def count(self, text: str, total: int, more: int = 1) -> None:
        self.check()
        self.done += more
        if self.progress is not None:
            self.progress(text, min(self.done, total), total)


@dataclass(frozen=True)
class _Asked:
    """What is to be measured."""

    problem: TrainingProblem
    sizes: Sequence[int]
    batches: int
    seed: int
    shown: _Shown


@dataclass(frozen=True)
class _OfSamples:
    """The full gradient, None where there is none; the noise of a sample; from how many it was taken at a time."""

    full: Gradient | None
    noise: Noise
    unit: int
    redrawn: float = 0.0


def _of_samples(asked: _Asked, way: ChosenMethod, order: Sequence[int]) -> _OfSamples:
    if way.method == "batches":
        return _OfSamples(None, Noise(*[math.nan] * 5), 0)
    problem, passes = asked.problem, 2 * len(order)
    if way.method == "ratio":
        return _of_ratio(asked, way, order)

    def tick(more: int) -> None:
        asked.shown.count("gradients", passes, more)

    norms = measured(problem, way.method, order, asked.seed, tick)
    full = _rest_added(problem, norms.mean, order, norms.unit)
    apart = redrawn(problem, way.method, order, norms.unit, asked.seed) if way.random else 0.0
    return _OfSamples(full, noise_of(norms), norms.unit, apart)


def _of_ratio(asked: _Asked, way: ChosenMethod, order: Sequence[int]) -> _OfSamples:
    """Of a loss that divides by a number of its batch; where some samples break that, there is no noise of one."""
    passes = 3 * len(order)

    def tick(more: int) -> None:
        asked.shown.count("gradients", passes, more)

    try:
        with still(asked.problem, way.random):
            weights = weights_of(asked.problem, units_of(order), same, tick)
    except NoRatio:
        return _OfSamples(None, Noise(*[math.nan] * 5), 0)
    found = measured_ratio(asked.problem, order, weights, asked.seed, tick)
    apart = redrawn_ratio(asked.problem, order, weights, asked.seed) if way.random else 0.0
    return _OfSamples(found.full, found.noise, found.unit, apart)


def _rest_added(problem: TrainingProblem, mean: Gradient, order: Sequence[int], unit: int) -> Gradient:
    """The mean over all samples, where the last micro-batch was too short to be one."""
    rest = order[len(order) // unit * unit :]
    if not rest:
        return mean
    seed_all(len(rest))
    share = len(rest) / len(order)
    return [
        (1 - share) * part + share * g.double()
        for part, g in zip(mean, problem.gradient(problem.batch(rest)), strict=True)
    ]


def _rows(asked: _Asked, full: Gradient | None) -> tuple[list[NoiseRow], bool]:
    """One size after the other, and whether Ctrl-C ended it."""
    problem, shown = asked.problem, asked.shown
    counts = {size: draw.how_many(size, problem.samples.n, asked.batches) for size in asked.sizes}
    passes = 1 if full is not None else 2
    total, shown.done = passes * sum(size * count for size, count in counts.items()), 0
    rows: list[NoiseRow] = []
    for size, count in counts.items():

        def check(size: int = size) -> None:
            shown.count(f"batches of {size:,}", total, size)

        try:
            if full is None:
                rows.append(draw.around_each_other(problem, size, count, asked.seed, check))
            else:
                rows.append(draw.around_full(problem, full, size, count, asked.seed, check))
        except KeyboardInterrupt:
            if not rows:
                raise
            return rows, True
    return rows, False


def _with_expected(row: NoiseRow, variance: float) -> NoiseRow:
    """The row with what theory gives, where it gives something."""
    if not math.isfinite(variance):
        return row
    return replace(
        row,
        variance=replace(row.variance, expected=variance),
        cosine=replace(row.cosine, expected=1 / math.sqrt(1 + max(variance, 0.0))),
    )


def _problem(
    model: torch.nn.Module, loss_fn: Callable[..., Any], data: Any, forward: Callable[[Any], Any] | None
) -> TrainingProblem:
    if not isinstance(model, torch.nn.Module):
        raise BatchproofError(f"model is a torch.nn.Module, not {type(model).__name__}")
    if not callable(loss_fn):
        raise BatchproofError(
            f"loss_fn is a function of the model's output and the target, not {type(loss_fn).__name__}"
        )
    if forward is not None and not callable(forward):
        raise BatchproofError(f"forward is a function of a batch, not {type(forward).__name__}")
    if not any(value.requires_grad for value in model.parameters()):
        raise BatchproofError("no parameter of the model requires a gradient: all are frozen, or there are none")
    prepare(model)

    def loss(batch: Any) -> Any:
        arguments = forward(batch) if forward is not None else _called(model, batch)
        return loss_fn(*arguments) if isinstance(arguments, (tuple, list)) else loss_fn(arguments)

    return TrainingProblem(model, loss, samples_of(data))


def _called(model: torch.nn.Module, batch: Any) -> tuple[Any, ...]:
    """The arguments of the loss: what the model makes of the inputs, and the target."""
    if isinstance(batch, Tensor):
        return (model(batch),)
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        *inputs, target = batch
        return model(*inputs), target
    if isinstance(batch, (tuple, list)) and batch:
        return (model(batch[0]),)
    raise BatchproofError(
        f"a batch is a {type(batch).__name__}, not (inputs, target): say with forward= what the loss takes of it"
    )


def _order(samples: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(samples, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def _sizes(given: Any, mark: int | None, samples: int) -> list[int]:
    """In order, none twice; the reader's own among them."""
    if samples < FEWEST:
        raise BatchproofError(f"a noise scale needs at least {FEWEST} samples, and the data has {samples}")
    if given is None:
        powers = [2**power for power in range(LARGEST.bit_length()) if 2**power <= min(samples, LARGEST)]
        sizes = {*powers, *([samples] if samples <= LARGEST else [])}
    else:
        sizes = sizes_of(given, "measure")
    if mark is not None:
        sizes.add(whole(mark, "mark", 1))
    if max(sizes) > samples:
        raise BatchproofError(f"a batch of {max(sizes):,} cannot be drawn: the data has {samples:,} samples")
    return sorted(sizes)


def _title(model: torch.nn.Module, loss_fn: Callable[..., Any]) -> str:
    """``mse_loss(Net(x), y)``."""
    return f"{name_of(loss_fn)}({type(model).__name__}(x), y)"


@contextmanager
def _attributes(model: torch.nn.Module) -> Iterator[None]:
    """What a forward pass stores in a module is gone afterwards: under ``vmap`` it would be no tensor to look at."""
    kept = [(vars(module), dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for attributes, then in kept:
            attributes.clear()
            attributes.update(then)
