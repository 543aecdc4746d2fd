"""The schemes of `accumulate` against the plain loop, which divides each micro-batch's loss by how many there are.

One transformer, one batch, the same micro-batches. The plain loop gives another gradient (that is the point), and costs
what a gradient over micro-batches costs at least. Memory is what torch holds at its peak beside the parameters.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import batchproof
from bench.section import Aim, Section

MICRO_BATCHES = 8
MICRO_BATCH = 8
LENGTH = 32
CLASSES = 64
Part = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


class Model(nn.Module):
    """A transformer that gives scores for each token."""

    def __init__(self, device: torch.device, width: int = 256, layers: int = 4) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x))
        return scores


def token_mean(scores: Tensor, labels: Tensor) -> Tensor:
    """Scheme 1: one sum over samples, and a count."""
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-1)


def three_sums(scores: Tensor, labels: Tensor) -> Tensor:
    """Scheme 2 or 3: a cosine between pooled scores and labels, and a penalty on the mean: three sums."""
    p, t = scores.sigmoid().mean(2), labels.float() / CLASSES
    return 1 - (p * t).sum() / (p.square().sum() * t.square().sum()).sqrt() + p.mean().square()


def contrastive(scores: Tensor, labels: Tensor) -> Tensor:
    """Scheme 3, on outputs: each sample is held against all others."""
    a, b = F.normalize(scores[:, 0], dim=1), F.normalize(scores[:, 1], dim=1)
    return F.cross_entropy(a @ b.T / 0.1, torch.arange(len(a), device=a.device))


@dataclass(frozen=True)
class Side:
    """One way to a gradient."""

    name: str
    run: Callable[[], object]
    beside: str | None  # the plain loop of the same loss
    time_aim: float | None = None
    buffers: int = 0


def sides(model: Model, parts: Sequence[Part]) -> list[Side]:
    def forward(part: Part) -> Part:
        return model(part[0]), part[1]

    def plain(loss_fn: Loss) -> Callable[[], None]:
        def loop() -> None:
            for x, labels in parts:
                (loss_fn(model(x), labels) / len(parts)).backward()

        return loop

    def full() -> None:
        x, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        token_mean(model(x), labels).backward()

    def exactly(loss_fn: Loss, once: bool = False) -> Callable[[], Tensor]:
        return lambda: batchproof.accumulate(loss_fn, forward, iter(parts) if once else parts)

    return [
        Side("token mean: plain loop", plain(token_mean), None),
        Side("token mean: one full batch", full, "token mean: plain loop"),
        Side("token mean: scheme 1", exactly(token_mean), "token mean: plain loop", 1.05),
        Side("three sums: plain loop", plain(three_sums), None),
        Side("three sums: scheme 2", exactly(three_sums, once=True), "three sums: plain loop", 1.5, buffers=3),
        Side("three sums: scheme 3", exactly(three_sums), "three sums: plain loop", 1.45),
        Side("contrastive: plain loop", plain(contrastive), None),
        Side("contrastive: scheme 3, outputs", exactly(contrastive), "contrastive: plain loop", 1.45),
    ]


def run(quick: bool) -> Section:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = Model(device)
    parts = [
        (torch.randn(MICRO_BATCH, LENGTH, 256, device=device), _labels(device, number))
        for number in range(MICRO_BATCHES)
    ]
    every = sides(model, parts)
    weights = sum(p.nbytes for p in model.parameters())
    seconds, peaks = _measured(model, every, rounds=3 if quick else 9, device=device)
    section = Section(
        "accumulate",
        f"a gradient over {MICRO_BATCHES} micro-batches of {MICRO_BATCH} samples of {LENGTH} tokens, "
        f"{weights / 4e6:.1f} million parameters, {device.type}",
        ["", "ms", "of the plain loop", "peak, MB", "of the plain loop"],
        notes=["peak: what torch holds beside the parameters, gradients included"],
    )
    for side in every:
        times, beside = seconds[side.name], seconds[side.beside or side.name]
        ratio = statistics.median(a / b for a, b in zip(times, beside, strict=True))
        # scheme 2 holds the gradient of each statistic: they are its price, and named apart
        memory = (peaks[side.name] - max(side.buffers - 1, 0) * weights) / peaks[side.beside or side.name]
        section.rows.append([side.name, 1e3 * statistics.median(times), ratio, peaks[side.name] / 1e6, memory])
        if side.time_aim is not None:
            section.aims.append(Aim(f"{side.name}, time", side.time_aim, ratio))
            section.aims.append(Aim("memory", 1.1, memory))
    return section


def _labels(device: torch.device, seed: int) -> Tensor:
    """Sequences of all lengths, padded with -1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (MICRO_BATCH, LENGTH), generator=generator)
    lengths = torch.randint(4, LENGTH + 1, (MICRO_BATCH, 1), generator=generator)
    return labels.masked_fill(torch.arange(LENGTH) >= lengths, -1).to(device)


def _measured(
    model: Model, every: Sequence[Side], rounds: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each side, a figure per round, and its peak bytes."""
    seconds: dict[str, list[float]] = {side.name: [] for side in every}
    peaks = {}
    for side in every:
        model.zero_grad()
        side.run()  # torch's own first calls, and what is learned once
        model.zero_grad()
        peaks[side.name] = _peak(side.run, device)
    for number in range(rounds):  # from another side on each time: what ran before leaves its traces
        start_at = number % len(every)
        for side in [*every[start_at:], *every[:start_at]]:
            model.zero_grad()
            _synchronize(device)
            start = time.perf_counter()
            side.run()
            _synchronize(device)
            seconds[side.name].append(time.perf_counter() - start)
    return seconds, peaks


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak(side: Callable[[], object], device: torch.device) -> float:
    """The most bytes that torch held at a time, beyond what it held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side()
        return float(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        side()
    events = watched.profiler.kineto_results.events()  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return float(peak)
