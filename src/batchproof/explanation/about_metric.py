"""A report on a metric object: does compute() depend on how the samples were batched, or merged?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from batchproof.explanation import metrics
from batchproof.explanation.cause_texts import finding
from batchproof.explanation.functions import direction
from batchproof.explanation.measure import Progress, Sizes, SizeValues, curve, measure
from batchproof.explanation.metrics import Scored
from batchproof.explanation.result import Code, Curve, Explanation, Finding, Quantity, Subject
from batchproof.explanation.samples import Samples
from batchproof.explanation.verdict import DEPENDS, how_far
from batchproof.ground.tensors import close
from batchproof.ground.text import listed

TOLERANCE = 1e-4
QUANTITY: Quantity = "compute()"
#: The exact value and the rows of single batches; None where single batches have no value.
Alone = tuple[torch.Tensor, list[SizeValues]] | None


def about_metric(subject: Subject, samples: Samples, sizes: Sizes, seed: int, progress: Progress | None) -> Explanation:
    """Score it on the same samples under several partitions and merges."""
    working = metrics.bounded(samples.shuffled(seed))
    chosen = sizes(working.n)
    scored = metrics.score(subject.target, working, chosen, seed, progress)
    alone = _per_batch(subject.target, working, chosen)
    about = _curve(scored, working, samples.n, alone)
    batched = all(about.is_exact(reading.mean) for reading in about.readings if not reading.undefined)
    ragged = all(_same(scored, value, about) for value in scored.ragged)
    merges = all(_same(scored, value, about) for value in scored.merged)
    findings = []
    if not (batched and ragged):
        precise = _in_double(subject.target, working, chosen, alone, seed)
        findings.append(_batching(subject.target, working, about, precise))
        about = about if precise is None else replace(about, exact=precise)
    if not merges and all(found.code != "rounding" for found in findings):
        findings.append(_merging(scored))
    findings += _undefined(about)
    unknown = _unknown(about) if not findings else ""
    safe = None if unknown else not findings
    notes = [*_tried(scored, working, samples.n), *_averaged(alone, scored, about)]
    if safe is False:
        notes.append(f"to be exact, give batchproof.exact a function with the value of {subject.name} on one batch")
    return Explanation(
        target=subject.title,
        kind="metric",
        is_safe=safe,
        verdict="undefined" if unknown else "accumulated" if safe else findings[0].code,
        headline=unknown or f"{subject.name} {_headline(findings, about, subject.marked)}",
        findings=tuple(findings) if findings or unknown else (finding("accumulated"),),
        place=subject.place,
        curve=about,
        keep=None,
        inputs=subject.inputs,
        asked=subject.asked,
        marked=subject.marked,
        notes=tuple(notes),
    )


def _curve(scored: Scored, samples: Samples, of_samples: int, alone: Alone) -> Curve:
    """The component that moves most.  What single batches give sets the scale: near 0, rounding is no dependence."""
    exact = [abs(float(value)) if bool(value.isfinite()) else 0.0 for value in scored.exact]
    scales = [max(value, _magnitude(alone, which)) for which, value in enumerate(exact)]
    gaps = [
        max(
            (abs(float(row.mean[which] - scored.exact[which])) for row in scored.rows if not int(row.undefined[which])),
            default=0.0,
        )
        / (scale or 1.0)
        for which, scale in enumerate(scales)
    ]
    worst = gaps.index(max(gaps))
    found = curve(
        scored.exact, scored.rows, scored.names, worst, TOLERANCE,
        samples=samples.n, of_samples=of_samples, quantity=QUANTITY,
    )  # fmt: skip
    return replace(found, scale=scales[worst])


def _magnitude(alone: Alone, which: int) -> float:
    if alone is None or which >= len(alone[0]):
        return 0.0
    sizes = [float(row.magnitude[which]) for row in alone[1] if bool(row.magnitude[which].isfinite())]
    return min(sizes, default=0.0)


def _same(scored: Scored, value: torch.Tensor, about: Curve) -> bool:
    return close(value, scored.exact, TOLERANCE, TOLERANCE * about.scale)


def _batching(target: Any, samples: Samples, about: Curve, precise: float | None) -> Finding[Code]:
    way = direction(about)
    if precise is not None:
        return finding("rounding", what=f"in double precision it is {precise:.4g}, however the samples are batched")
    size = min(16, max(1, samples.n // 3))
    pieces = [(lo, min(samples.n, lo + size)) for lo in range(0, samples.n, size)]
    states, place = metrics.blame(target, samples, pieces, TOLERANCE)
    differ = "differs" if len(states) == 1 else "differ"
    what = f"{listed([f'self.{name}' for name in states])} {differ} between one update and many" if states else ""
    return replace(finding("per-batch", place, what=what), direction=way)


def _in_double(target: Any, samples: Samples, sizes: Sequence[int], alone: Alone, seed: int) -> float | None:
    """The value in double precision, where it is the same for all batches."""
    twin = metrics.in_double(target)
    if twin is None:
        return None
    try:
        scored = metrics.score(twin, samples.double(), sizes, seed, None)
    except Exception:  # noqa: BLE001 - a metric that refuses double precision leaves the question open
        return None
    precise = _curve(scored, samples, samples.n, alone)
    same = all(precise.is_exact(reading.mean) for reading in precise.readings if not reading.undefined)
    return precise.exact if same else None


def _merging(scored: Scored) -> Finding[Code]:
    off = max(float((value - scored.exact).abs().nan_to_num().max()) for value in scored.merged)
    scale = float(scored.exact.abs().nan_to_num().max()) or 1.0
    return finding("merge", what=f"merged from uneven copies it is off by up to {off / scale:.2%}")


def _undefined(about: Curve) -> list[Finding[Code]]:
    rows = [reading for reading in about.readings if reading.undefined]
    if not rows:
        return []
    return [finding("undefined", what=f"updated with batches of {rows[0].size}: {rows[0].raised or 'NaN'}")]


def _unknown(about: Curve) -> str:
    """What keeps a value that is the same in all batches from being called safe; empty where nothing does."""
    if math.isfinite(about.exact):
        return ""
    return f"could not tell: compute() on all samples is {'NaN' if math.isnan(about.exact) else 'infinite'}"


def _headline(findings: Sequence[Finding[Code]], about: Curve, marked: int | None) -> str:
    if not findings:
        return "is safe: compute() is the same however the samples are cut into batches"
    if findings[0].code == "merge":
        return "depends on how it is merged: compute() after merge_state is another number"
    if findings[0].code == "undefined":
        return DEPENDS + findings[0].what
    return DEPENDS + (how_far(about, marked) or "compute() is another number for other batches")


def _tried(scored: Scored, samples: Samples, of_samples: int) -> list[str]:
    some = f"{samples.n:,} of {of_samples:,} samples" if samples.n < of_samples else f"{samples.n:,} samples"
    text = f"{len(scored.rows)} batch sizes and {len(scored.ragged)} ragged partitions of {some}"
    if scored.merged:
        return [f"{text}, and {len(scored.merged)} merges of uneven copies"]
    return [f"{text}; merges not tried: {scored.merge_refused}"]


def _per_batch(target: Any, samples: Samples, sizes: Sequence[int]) -> Alone:
    """What it gives on single batches, which many loops average."""
    few = [size for size in sizes if size < samples.n]
    few = few[:: max(1, len(few) // 3)] or [samples.n]
    try:
        return measure(metrics.one_by_one(target, samples), samples.n, few)
    except Exception:  # noqa: BLE001 - a metric that has no value on one batch has no mean of them
        return None


def _averaged(alone: Alone, scored: Scored, about: Curve) -> list[str]:
    """A mean of per-batch values is another number than compute() at the end."""
    if alone is None or len(alone[0]) != len(scored.names):
        return []
    which = scored.names.index(about.component) if about.component else 0
    averaged = curve(
        alone[0], alone[1], scored.names, which, TOLERANCE, samples=about.samples, of_samples=about.samples
    )
    off = [
        reading for reading in averaged.readings if not reading.undefined and not averaged.is_exact(reading.weighted)
    ]
    if not off:
        return []
    worst = max(off, key=lambda reading: abs(averaged.error(reading.mean)))
    value = f"{worst.mean:.4g}, not {averaged.exact:.4g}"
    return [f"averaging its values over batches gives another number: {value} at batch size {worst.size}"]
