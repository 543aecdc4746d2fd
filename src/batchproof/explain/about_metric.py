"""A report on a metric object: does compute() depend on how the samples were batched, or merged?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from batchproof.explain import metrics
from batchproof.explain.catalogue import finding
from batchproof.explain.explanation import Curve, Explanation, Finding
from batchproof.explain.functions import direction
from batchproof.explain.metrics import Scored
from batchproof.explain.samples import Samples
from batchproof.explain.sizes import Progress, curve, default_sizes, measure
from batchproof.explain.subject import Subject, name_of

TOLERANCE = 1e-4
QUANTITY = "compute()"


def about_metric(
    subject: Subject, samples: Samples, sizes: Sequence[int] | None, seed: int, progress: Progress | None
) -> Explanation:
    """Score it on the same samples under several partitions and merges."""
    working = metrics.bounded(samples.shuffled(seed))
    chosen = [size for size in (sizes or default_sizes(working.n)) if size <= working.n]
    scored = metrics.score(subject.target, working, chosen, seed, progress)
    about = _curve(scored, working, samples.n)
    batched = all(about.is_exact(reading.mean) for reading in about.readings if not reading.undefined)
    ragged = all(_same(scored, value) for value in scored.ragged)
    merges = all(_same(scored, value) for value in scored.merged)
    findings = []
    if not (batched and ragged):
        findings.append(_batching(subject.target, working, chosen, about, seed))
    if not merges:
        findings.append(_merging(scored))
    findings += _undefined(about)
    notes = [*_tried(scored, working, samples.n), *_per_batch(subject, working, chosen)]
    safe = not findings
    return Explanation(
        target=subject.title,
        kind="metric",
        is_safe=safe,
        verdict="accumulated" if safe else findings[0].code,
        headline=_headline(findings, about, working.n),
        findings=tuple(findings) if findings else (finding("accumulated"),),
        place=subject.place,
        curve=about,
        use=_use(subject, safe),
        inputs=subject.inputs,
        notes=tuple(notes),
    )


def _curve(scored: Scored, samples: Samples, of_samples: int) -> Curve:
    gaps = [
        max((abs(float(row.mean[which] - scored.exact[which])) for row in scored.rows if not row.undefined), default=0.0)
        for which in range(len(scored.names))
    ]
    worst = gaps.index(max(gaps))
    return curve(
        scored.exact, scored.rows, scored.names, worst, TOLERANCE,
        samples=samples.n, of_samples=of_samples, quantity=QUANTITY,
    )  # fmt: skip


def _same(scored: Scored, value: torch.Tensor) -> bool:
    scale = scored.exact.nan_to_num().abs().max()
    if value.shape != scored.exact.shape:
        return False
    return torch.allclose(value, scored.exact, rtol=TOLERANCE, atol=float(TOLERANCE * scale), equal_nan=True)


def _batching(target: Any, samples: Samples, sizes: Sequence[int], about: Curve, seed: int) -> Finding:
    way = direction(about, samples.n)
    twin = metrics.in_double(target)
    if twin is not None:
        precise = _curve(metrics.score(twin, samples.double(), sizes, seed, None), samples, samples.n)
        if all(precise.is_exact(reading.mean) for reading in precise.readings if not reading.undefined):
            return finding("rounding", direction=way)
    size = min(16, max(1, samples.n // 3))
    pieces = [(lo, min(samples.n, lo + size)) for lo in range(0, samples.n, size)]
    states, place = metrics.blame(target, samples, pieces, TOLERANCE)
    what = f"{_and(states)} differ{'s' if len(states) == 1 else ''} between one update and many" if states else ""
    return replace(finding("per-batch", place, what=what), direction=way)


def _merging(scored: Scored) -> Finding:
    off = max(float((value - scored.exact).abs().nan_to_num().max()) for value in scored.merged)
    scale = float(scored.exact.abs().nan_to_num().max()) or 1.0
    return finding("merge", what=f"merged from uneven copies it is off by up to {off / scale:.2%}")


def _undefined(about: Curve) -> list[Finding]:
    rows = [reading for reading in about.readings if reading.undefined]
    if not rows:
        return []
    return [finding("undefined", what=f"updated with batches of {rows[0].size}: {rows[0].raised or 'NaN'}")]


def _headline(findings: Sequence[Finding], about: Curve, n: int) -> str:
    if not findings:
        return "safe: compute() is the same however the samples are batched"
    if findings[0].code == "merge":
        return "depends on how it is merged: compute() after merge_state is another number"
    if findings[0].code == "undefined":
        return f"depends on the batch size: {findings[0].what}"
    reads = {"low": "reads LOW", "high": "reads HIGH", "varies": "reads low at some sizes, high at others"}
    way = direction(about, n)
    return f"depends on the batch size: compute() {reads[way] if way else 'moves with the batches'}"


def _tried(scored: Scored, samples: Samples, of_samples: int) -> list[str]:
    some = f"{samples.n:,} of {of_samples:,} samples" if samples.n < of_samples else f"{samples.n:,} samples"
    text = f"{len(scored.rows)} batch sizes and {len(scored.ragged)} ragged partitions of {some}"
    if scored.merged:
        return [f"{text}, and {len(scored.merged)} merges of uneven copies"]
    return [f"{text}; merges not tried: {scored.merge_refused}"]


def _per_batch(subject: Subject, samples: Samples, sizes: Sequence[int]) -> list[str]:
    """Many loops average what the metric gives on each batch: another number than compute() at the end."""
    few = [size for size in sizes if size < samples.n][:: max(1, len(sizes) // 4)] or [samples.n]
    try:
        exact, rows = measure(metrics.one_by_one(subject.target, samples), samples.n, few)
    except Exception:  # noqa: BLE001 - a metric that has no value on one batch has no mean of them
        return []
    names = [str(index) for index in range(len(exact))]
    about = curve(exact, rows, names, 0, TOLERANCE, samples=samples.n, of_samples=samples.n)
    off = [reading for reading in about.readings if not reading.undefined and not about.is_exact(reading.weighted)]
    if not off:
        return []
    worst = max(off, key=lambda reading: abs(about.error(reading.mean)))
    return [
        f"a mean of its per-batch values is another number: {about.error(worst.mean):+.1%} at batch size {worst.size}"
    ]


def _use(subject: Subject, safe: bool) -> tuple[str, ...]:
    if safe:
        return ("update() per batch, compute() once at the end",)
    return (f"batchproof.exact of the formula that {name_of(subject.target)} computes on one batch",)


def _and(words: Sequence[str]) -> str:
    quoted = [f"self.{word}" for word in words]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" and {quoted[-1]}"
