"""The verb: a loss on a whole batch beside the same loss on its pieces, cut in every way that trainers cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch

from batchproof.errors import BatchproofError
from batchproof.explanation import (
    Finding,
    LossAggregation,
    LossSlope,
    Positions,
    Samples,
    SlopeMeasure,
    Units,
    aggregation,
    find_positions,
    gather,
    harmful_place,
    settled,
    share_of,
    slope_measure,
    units_found,
    units_of,
)
from batchproof.gradients.partitions.arguments import arguments_of
from batchproof.gradients.partitions.causes import CUTS, finding
from batchproof.gradients.partitions.cuts import BatchCut, both, cuts_of, trimmed
from batchproof.gradients.partitions.diagnose import CutEvidence, causes_of
from batchproof.gradients.partitions.normalisers import Normaliser, Normalisers, check_normalisers
from batchproof.gradients.partitions.result import CutKind, CutReading, PartitionCheck, PartitionCode
from batchproof.ground.batch import check_batch_dim
from batchproof.ground.isolation import muted, preserved, quiet
from batchproof.ground.place import Place
from batchproof.ground.target import place_of, title_of
from batchproof.ground.text import error_line, listed

Combine = Literal["mean", "sum"]


def check_partitions(
    loss_fn: Callable[..., Any],
    batch: Any,
    *,
    normalisers: Mapping[str, Normaliser] | None = None,
    groups: Any = None,
    cuts: Sequence[CutKind] | None = None,
    combine: Combine | None = None,
    over_ranks: Combine = "mean",
    padding: Mapping[str, float] | None = None,
    batch_dim: int | Sequence[int | None] | Mapping[str, int | None] = 0,
    seed: int = 0,
    **keywords: Any,
) -> PartitionCheck:
    """Say whether a loss depends on how its batch is cut: into micro-batches, over ranks, by padding, packing or order.

    >>> import batchproof, torch
    >>> def token_mean(losses, mask, num_items_in_batch, world_size):
    ...     return (losses * mask).sum() / num_items_in_batch * world_size
    >>> mask = (torch.arange(6) < torch.tensor([[2], [6], [3], [4]])).float()
    >>> print(batchproof.check_partitions(
    ...     token_mean,
    ...     (torch.randn(4, 6), mask),
    ...     normalisers={"num_items_in_batch": "tokens", "world_size": "ranks"},
    ... ))
    ✓ token_mean is the same however its batch is cut: by order, micro-batch, uneven, rank, padding and packing...

    The loss on the pieces is put together as trainers do it: micro-batches are averaged, or added where the loss
    divides by a number of the whole batch, and ranks are averaged, as DDP and FSDP do.  The value is compared, and the
    gradient by what the loss is called with, from which a model's follows.

    Args:
        loss_fn: Called as ``loss_fn(*batch, **normalisers, **keywords)``, or by name where the batch is a mapping.  It
            returns the loss, or something with the loss as its first number.
        batch: A tensor, a tuple of arguments, or a mapping: by the names of parameters, or one that is an argument.
        normalisers: By the names of parameters, the numbers of the whole batch that the loss takes: ``"tokens"``,
            ``"samples"``, ``"groups"``, ``"ranks"``, ``"micro_batches"`` (of a rank), ``"rank tokens"`` or
            ``"rank samples"`` (of the piece's own rank), a function of the whole batch, or a number.
        groups: For each sample the group that it belongs to: groups are never split.  Found where the loss fails on
            batches that split one.
        cuts: Kinds of cuts to try: ``"order"``, ``"micro-batch"`` (equal ones), ``"uneven"``, ``"rank"``,
            ``"padding"``, ``"packing"``; all if None.
        combine: Whether micro-batches are averaged (``"mean"``) or added (``"sum"``); by ``normalisers`` if None.
        over_ranks: Whether ranks are averaged or added.
        padding: By the names of arguments, what stands where nothing counts: ``{"labels": -100, "mask": 0}``; found by
            names and values if None.
        batch_dim: As `explain` takes it.
        seed: For what is drawn, and before every call.
        keywords: Further arguments of the loss, the same for all pieces.

    Returns:
        A `PartitionCheck`; printed, it is the report.

    Raises:
        BatchproofError: The arguments do not fit together, or the loss is not a number on the whole batch.
    """
    wanted = _checked_cuts(cuts)
    check_normalisers(normalisers or {})
    for name, value in (("combine", combine), ("over_ranks", over_ranks)):
        if value not in ("mean", "sum", None):
            raise BatchproofError(f"{name} is 'mean' or 'sum', not {value!r}")
    with preserved(loss_fn), quiet(loss_fn), muted():
        job = _job(loss_fn, batch, normalisers or {}, groups, padding, batch_dim, seed, keywords)
        averaged = combine == "mean" or (combine is None and not job.normalisers.pieces_add)
        return _check(replace(job, averaged=averaged, ranks_averaged=over_ranks == "mean"), wanted)


@dataclass(frozen=True)
class _Job:
    """One loss and its batch.

    Attributes:
        fn: The loss, with its fixed arguments.
        target: The loss as it was given.
        measure: Its samples and gradients.
        normalisers: What it takes of the whole batch.
        positions: Which positions count.
        units: The rows of each group; of each sample, where these stand alone.
        grouped: Whether samples belong together.
        averaged: Whether micro-batches are.
        ranks_averaged: Whether ranks are.
    """

    fn: Callable[..., Any]
    target: Callable[..., Any]
    measure: SlopeMeasure
    normalisers: Normalisers
    positions: Positions | None
    units: Units
    grouped: bool
    averaged: bool = True
    ranks_averaged: bool = True

    def alone(self, samples: Samples, groups: int | None = None) -> Callable[..., Any]:
        """The loss on samples that are a whole batch, with this number of groups; all there are if None."""
        given = self.normalisers if groups is None else replace(self.normalisers, groups=groups)
        return partial(self.fn, **given.values(samples, samples))


def _job(
    loss_fn: Callable[..., Any],
    batch: Any,
    given: Mapping[str, Normaliser],
    groups: Any,
    padding: Mapping[str, float] | None,
    batch_dim: Any,
    seed: int,
    keywords: dict[str, Any],
) -> _Job:
    args, kwargs, of_batch = arguments_of(loss_fn, batch, [*given, *keywords])
    samples = gather(loss_fn, args, kwargs, check_batch_dim(batch_dim), tried=False)
    samples = replace(samples, fixed={**samples.fixed, **keywords})
    positions = find_positions(samples, padding)
    units = units_of(groups, samples.n)
    normalisers = Normalisers(given, of_batch, positions, len(units or ()))
    whole = partial(loss_fn, **normalisers.values(samples, samples))
    measure = slope_measure(whole, samples, positions, seed)
    if positions is not None:
        positions = settled(whole, measure, positions)
        normalisers = replace(normalisers, positions=positions)
    if units is None:
        units = units_found(whole, measure)
        normalisers = replace(normalisers, groups=len(units or ()))
    alone = [[row] for row in range(samples.n)]
    return _Job(loss_fn, loss_fn, measure, normalisers, positions, units or alone, units is not None)


def _checked_cuts(cuts: Sequence[CutKind] | None) -> tuple[CutKind, ...]:
    every: tuple[CutKind, ...] = get_args(CutKind)
    for cut in (cuts,) if isinstance(cuts, str) else cuts or ():
        if cut not in every:
            raise BatchproofError(f"{cut!r} is no kind of cut: they are {', '.join(map(repr, every))}")
    return every if cuts is None else tuple(cut for cut in every if cut in cuts)


def _check(job: _Job, wanted: Sequence[CutKind]) -> PartitionCheck:
    measure = job.measure
    whole = measure.at(job.alone(measure.samples), measure.samples)
    if not whole.is_finite:
        raise BatchproofError(f"the loss on the whole batch, or its gradient, is no number: {whole.value}")
    _check_steady(job, whole)
    not_tried: dict[str, str] = {}
    found: dict[CutKind, CutEvidence] = {}
    for kind in wanted:
        if obstacle := _obstacle(job, kind):
            not_tried[kind] = obstacle
            continue
        for cut in _cuts(job, kind, found):
            found[kind] = _measured(job, whole, cut)
            if not found[kind].reading.is_same:
                break
        if kind not in found:
            not_tried[kind] = f"{len(job.units)} {'groups' if job.grouped else 'samples'} cannot be cut so"
        elif kind in ("padding", "packing") and (raised := found[kind].reading.raised):  # nobody is misled
            not_tried[kind] = f"the loss takes no {'packed rows' if kind == 'packing' else 'padding'} ({raised})"
            del found[kind]
    name = _aggregation(job)
    causes = _causes(job, [one for one in found.values() if not one.reading.is_same], name)
    readings = tuple(one.reading for one in found.values())
    return PartitionCheck(
        target=title_of(job.target),
        place=place_of(job.target),
        ok=not causes,
        summary=_summary(job, readings),
        findings=causes,
        readings=readings,
        aggregation=name,
        value=whole.value,
        samples=measure.samples.n,
        tolerance=measure.tolerance,
        not_tried=not_tried,
        notes=tuple(_notes(job, whole)),
        calls=measure.samples.calls.count,
    )


def _check_steady(job: _Job, whole: LossSlope) -> None:
    """Raise BatchproofError where two calls on the same samples differ: then pieces would differ for another reason."""
    measure = job.measure
    for seed, what in ((measure.seed, "keeps something from call to call"), (measure.seed + 1, "draws random numbers")):
        again = replace(measure, seed=seed).at(job.alone(measure.samples), measure.samples)
        if not measure.same(whole, again):
            raise BatchproofError(
                f"the loss {what}, so its value on pieces says nothing: pass that in, or switch it off"
            )


def _obstacle(job: _Job, kind: CutKind) -> str:
    """Why a kind of cut is not tried; empty where it can be."""
    if kind not in ("padding", "packing"):
        return "" if len(job.units) > 1 else "there is one sample, or one group"
    if job.positions is None:
        return "nothing says which positions count: no mask, no label of -100; padding= names them"
    if kind == "packing" and not job.positions.can_be_packed(job.measure.samples):
        return "an argument has a number for each sample, and a packed row has several samples"
    return ""


def _cuts(job: _Job, kind: CutKind, found: Mapping[CutKind, CutEvidence]) -> Iterator[BatchCut]:
    """Cuts of one kind; those of two kinds at once where each alone changes nothing."""
    samples, seed = job.measure.samples, job.measure.seed
    cuts = list(cuts_of(kind, samples, job.units, job.positions, seed))
    yield from cuts
    pieces = found.get("micro-batch")
    if pieces is None or not pieces.reading.is_same:
        return
    if kind == "rank" and (cut := both(samples, job.units, seed)) is not None:
        yield cut
    if kind == "padding" and job.positions is not None:
        first = next(cuts_of("micro-batch", samples, job.units, job.positions, seed))
        yield trimmed(first, job.positions)


def _measured(job: _Job, whole: LossSlope, cut: BatchCut) -> CutEvidence:
    """The loss put together from the pieces, beside the one on the whole batch."""
    measure, base = job.measure, job.measure.samples
    ranks = len(cut.pieces)
    total: LossSlope | None = None
    shares: list[float | None] = []
    counted: list[float] = []
    for rank in cut.pieces:
        own = base.reorder(torch.tensor([row for piece in rank for row in piece.rows]))
        given = job.normalisers.values(base, own, ranks, len(rank))
        counts = (1 / len(rank) if job.averaged else 1.0) * (1 / ranks if job.ranks_averaged else 1.0)
        for piece in rank:
            try:
                part = measure.at(partial(job.fn, **given), piece.samples)
            except BatchproofError:
                raise
            except Exception as error:  # noqa: BLE001 - a loss that fails on a piece is a finding
                return CutEvidence(cut, _failed(cut, error_line(error)), (), (), measure.tolerance)
            shares.append(share_of(measure, whole, part, piece.rows))
            counted.append(counts)
            total = part * counts if total is None else total + part * counts
    assert total is not None
    size = max(total.size, whole.size)
    apart = total - whole
    length = max(whole.norm, total.norm)
    off = abs(apart.value)
    value_off = (off / abs(whole.value) if whole.value else math.inf) if off > measure.tolerance * size else 0.0
    gradient_off = apart.norm / whole.norm if whole.norm else (math.inf if length else math.nan)
    same = total.is_finite and not value_off and apart.norm <= measure.tolerance * length
    reading = CutReading(cut.kind, cut.how, total.value, value_off, gradient_off, same, _weights(cut, shares))
    return CutEvidence(cut, reading, tuple(shares), tuple(counted), measure.tolerance)


def _weights(cut: BatchCut, shares: Sequence[float | None]) -> tuple[tuple[float, ...], ...]:
    known = [share for share in shares if share is not None]
    if len(known) < len(shares) or cut.kind in ("order", "padding", "packing"):
        return ()
    left = iter(known)
    return tuple(tuple(next(left) for _ in rank) for rank in cut.pieces)


def _failed(cut: BatchCut, raised: str) -> CutReading:
    return CutReading(cut.kind, cut.how, math.nan, math.nan, math.nan, is_same=False, raised=raised)


def _aggregation(job: _Job) -> LossAggregation | None:
    """What the loss is when it divides by what it is given of each batch."""
    try:
        return aggregation(job.alone, job.measure, job.positions, job.units if job.grouped else None)
    except Exception:  # noqa: BLE001 - a loss that is not defined on some of its samples has no name
        return None


def _causes(
    job: _Job, broken: Sequence[CutEvidence], name: LossAggregation | None
) -> tuple[Finding[PartitionCode], ...]:
    """The causes, each once, with the cuts that show it."""
    samples = job.measure.samples
    told: dict[PartitionCode, tuple[list[CutEvidence], dict[str, str]]] = {}
    for one in broken:
        for code, words in causes_of(one, samples, job.positions, job.units, name):
            told.setdefault(code, ([], words))[0].append(one)
    if "couples" in told and "weights" in told:  # of one sample any gradient is some multiple of the whole's
        told["couples"][0].extend(told.pop("weights")[0])
    place = harmful_place(job.alone(samples), samples) if told else None
    return tuple(
        finding(code, [one.cut.kind for one in shown], shown[0].cut.how, _blamed(code, place), **words)
        for code, (shown, words) in told.items()
    )


def _blamed(code: PartitionCode, place: Place | None) -> Place | None:
    """The line, where the program's first reason is the reason of this cause, too."""
    return place if code in ("own-tokens", "couples") else None


def _summary(job: _Job, readings: Sequence[CutReading]) -> str:
    name = title_of(job.target).partition("(")[0]
    if not readings:
        return f"{name}: no cut could be tried"
    broken = [reading for reading in readings if not reading.is_same]
    if not broken:
        return f"{name} is the same however its batch is cut: by {listed([reading.cut for reading in readings])}"
    worst = max(broken, key=lambda reading: _off(reading) if math.isfinite(_off(reading)) else math.inf)
    return f"{name} depends on {listed([CUTS[reading.cut] for reading in broken])}: {how_far(worst)}"


def _off(reading: CutReading) -> float:
    return reading.value_off if math.isnan(reading.gradient_off) else reading.gradient_off


def how_far(reading: CutReading) -> str:
    """``its gradient is off by 12% with 2 micro-batches of 6 samples``."""
    if reading.raised:
        return f"it fails with {reading.how} ({reading.raised})"
    off = _off(reading)
    what = "value" if math.isnan(reading.gradient_off) or off <= 1e-6 else "gradient"
    off = reading.value_off if what == "value" else off
    share = f"{off:.2g} times its size" if off >= 10 else f"{off:.1%}" if off >= 1e-3 else f"{off:.0e}"
    return f"its {what} is off by {share} with {reading.how}" if math.isfinite(off) else f"no number with {reading.how}"


def _notes(job: _Job, whole: LossSlope) -> Iterator[str]:
    if job.grouped and _needs_groups(job, whole):
        yield "cuts fall between groups only: micro-batches that split one give another loss, or none"
    elif job.grouped:
        yield "cuts fall between groups only, and need not: micro-batches that split some give the same"
    over = "averaged" if job.averaged else "added"
    ranks = "averaged" if job.ranks_averaged else "added"
    yield f"micro-batches are {over}, ranks {ranks}"


def _needs_groups(job: _Job, whole: LossSlope) -> bool:
    """Whether micro-batches of single samples change the loss, or have none, where those of whole groups do not."""
    samples = job.measure.samples
    alone = [[row] for row in range(samples.n)]
    cuts = cuts_of("micro-batch", samples, alone, job.positions, job.measure.seed)
    return any(not _measured(job, whole, cut).reading.is_same for cut in cuts)
