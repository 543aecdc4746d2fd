"""What `simulate` should find, without it: the same samples again, the function called on each batch, plain means."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.ground import components
from batchproof.report.estimates import Estimate
from batchproof.simulation.chunks import Round
from batchproof.simulation.result import Simulation, SimulationRow
from batchproof.simulation.run import BatchGroup
from promise import fresh

Function = Callable[..., Any]


@dataclass
class Loop:
    """Values of a function on batches, one call each, and on all of their samples together."""

    names: list[str]
    values: Tensor  # (batches, components), NaN where it raised
    pooled: Tensor

    def column(self, found: Simulation) -> int:
        return self.names.index(found.component) if found.component else 0


def value(fn: Function, batch: Sequence[Any], like: int | None = None) -> Tensor:
    """The numbers that a function returns; NaN where it raises or returns another number of them."""
    try:
        got = components.values(fn(*fresh(list(batch))))
    except Exception:  # noqa: BLE001 - such a batch has no value
        return torch.full((like or 1,), math.nan, dtype=torch.float64)
    return got if like in (None, len(got)) else torch.full((like or 1,), math.nan, dtype=torch.float64)


def loop(fn: Function, batches: Sequence[Sequence[Any]]) -> Loop:
    everything = [torch.cat(list(leaf)) for leaf in zip(*batches, strict=True)]
    names = components.names(fn(*fresh(everything)))
    values = torch.stack([value(fn, batch, len(names)) for batch in batches])
    return Loop(names, values, value(fn, everything, len(names)))


@dataclass
class Watched:
    """A simulation of one batch size, and what went on in it."""

    found: Simulation
    values: Tensor  # of the batches, in order
    trial: Any
    spans: Sequence[Any]

    @property
    def row(self) -> SimulationRow:
        return self.found.rows[0]

    def batches(self) -> list[list[Any]]:
        """The samples once more, where they were drawn: for each batch the arguments."""
        assert self.row.how != "direct"
        population, found = self.trial.population, []
        for span in self.spans:
            generator, left, parts = span.generator(), span.samples, []
            long = self.row.how == "drawn" and span.size > population.chunk
            at_once = population.chunk if long else left
            while left:
                parts.append(population.draw(min(left, at_once), generator))
                left -= min(left, at_once)
            leaves = [torch.cat(leaf) for leaf in zip(*parts, strict=True)]
            found += [[leaf[k * span.size : (k + 1) * span.size] for leaf in leaves] for k in range(span.batches)]
        return found


def watched(fn: Function | None, errors: Any, size: int, batches: int, **options: Any) -> Watched:
    """Simulate, and keep what is thrown away: a way to the values that is given up may leave some of them in front."""
    module = importlib.import_module("batchproof.simulation.simulate")
    trials: list[Any] = []
    spans: list[Any] = []
    values: list[Tensor] = []
    make, add, cut = module._trial, BatchGroup.add, Round.spans

    def trial(*args: Any) -> Any:
        made = make(*args)
        trials.append(made[0])
        return made

    def kept(self: BatchGroup, piece: Any, *rest: Any) -> None:
        add(self, piece, *rest)
        values.append(piece.values.clone())

    def listed(self: Round, *args: Any) -> Any:
        spans.append(list(cut(self, *args)))
        return spans[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_trial", trial)
        patch.setattr(BatchGroup, "add", kept)
        patch.setattr(Round, "spans", listed)
        found = bp.simulate(fn, errors, [size], batches, **options)
    return Watched(found, torch.cat(values)[-batches:], trials[-1], spans[-1])


def values_of(fn: Function | None, errors: Any, size: int, batches: int, **options: Any) -> tuple[Simulation, Tensor]:
    """One size: what simulate found, and its values of the batches."""
    seen = watched(fn, errors, size, batches, **options)
    return seen.found, seen.values


def by_loop(fn: Function, errors: Any, size: int, batches: int, **options: Any) -> Loop:
    """The function called on each batch of other samples."""
    return loop(fn, watched(fn, errors, size, batches, seed=99, direct=False, **options).batches())


def run(
    fn: Function | None, errors: Any = "normal", sizes: Any = (4,), batches: int = 50, **options: Any
) -> Simulation:
    return bp.simulate(fn, errors, sizes, batches, **options)


def near(estimate: Estimate, other: float, other_error: float = 0.0, deviations: float = 4.0) -> bool:
    """Whether two random numbers may be the same but for noise."""
    return abs(estimate.value - other) <= deviations * math.hypot(estimate.standard_error, other_error)


def equal(a: Tensor, b: Tensor, rtol: float) -> bool:
    same = (a == b) | (a.isnan() & b.isnan())
    scale = b.abs().nan_to_num(posinf=0.0).amax() if b.numel() else 1.0
    return a.shape == b.shape and bool((same | ((a - b).abs() <= rtol * scale)).all())


def check(seen: Watched, fn: Function, rtol: float = 1e-9) -> None:
    """The values, their mean, its standard error, the undefined and the pooled are those of a loop."""
    expected, row = loop(fn, seen.batches()), seen.row
    assert equal(seen.values, expected.values, rtol)
    column = expected.values[:, expected.column(seen.found)]
    finite = column[column.isfinite()]
    assert row.batches == len(column)
    assert row.undefined == len(column) - len(finite)
    if len(finite):
        assert row.mean.value == pytest.approx(finite.mean().item(), rel=rtol, abs=1e-300)
    else:
        assert math.isnan(row.mean.value)
    if len(finite) > 1:
        error = (finite.std() / len(finite) ** 0.5).item()
        assert row.mean.standard_error == pytest.approx(error, rel=1e-5, abs=1e-9 * abs(row.mean.value) + 1e-300)
    pooled = expected.pooled[expected.column(seen.found)].item()
    if row.pooled_samples == row.size * row.batches:
        assert row.pooled.value == pytest.approx(pooled, rel=rtol, abs=1e-300, nan_ok=True)
