"""What the reports on a Simulation say in words, in every form: terminal, HTML and PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.explanation import exact_lines
from batchproof.report.document import Aside
from batchproof.report.numbers import error_bar, known_to, size, too_low_or_high

if TYPE_CHECKING:
    from batchproof.simulation.result import Simulation, SimulationRow


def drawn(simulation: Simulation) -> str:
    """What was drawn, and how often."""
    text = f"{simulation.errors}; {simulation.batches:,} batches of each size, seed {simulation.seed}"
    if simulation.components > 1:
        text += f"; component {simulation.component} of {simulation.components}"
    return f"{text}; ± one standard error"


def at_marked_row(simulation: Simulation) -> str:
    """``at your batch size, 16, it is 1.6% too low``; empty where no size is marked."""
    if simulation.marked is None:
        return ""
    row = next((row for row in simulation.rows if row.size == simulation.marked), None)
    if row is None:
        return f"your batch size, {size(simulation.marked)}, was not reached"
    head = f"at your batch size, {size(row.size)},"
    if not math.isfinite(row.shortfall):
        return f"{head} there is no value"
    if row.ratio.expected is None and row.ratio.value == 1:
        return f"{head} it is the value on all samples"
    if row.is_near_zero:
        gap = row.difference
        far = f"{known_to(abs(gap.value), gap.standard_error)}{error_bar(gap.value, gap.standard_error)}"
        return f"{head} it is {far} too {'high' if gap.value > 0 else 'low'}; the value on all samples is near 0"
    noise = row.ratio.standard_error if row.ratio.expected is None else 0.0
    return f"{head} it is {too_low_or_high(-row.shortfall, noise)}"


def remedy(simulation: Simulation) -> tuple[str, ...]:
    """Code to paste, where the number depends on the batch size and the function is the reader's."""
    name, _, arguments = simulation.target.partition("(")
    if not simulation.depends or simulation.place is None or not name.isidentifier() or name == "lambda":
        return ()
    return exact_lines(name, arguments.removesuffix(")"))


def closing(simulation: Simulation) -> str:
    """What was drawn, in a few words."""
    return f"{simulation.errors}; {simulation.batches:,} batches of each size, seed {simulation.seed}"


MORE = "standard errors, expected values, theory"


def asides(simulation: Simulation) -> Iterator[Aside]:
    """What a reader of the table should know, each line under its label."""
    if simulation.interrupted:
        yield Aside("ended", _ended(simulation.rows[-1], simulation.batches), is_warning=True)
    yield from (Aside("check", text) for text in _checked(simulation))
    for how, text in (
        ("direct", "the state of each batch was drawn from its own distribution, not sample by sample"),
        ("called", "the function was called on each batch: it has no state that sums up a batch"),
    ):
        some = [row for row in simulation.rows if row.how == how]
        if some:
            yield Aside(how, f"{_sizes(some, simulation.rows)}: {text}")
    if simulation.expected_by:
        yield Aside("theory", _theory(simulation))
    if simulation.published:
        yield Aside("source", f"published: {simulation.published}")


def remarks(simulation: Simulation) -> list[str]:
    """What qualifies the figures."""
    return [*_undefined(simulation.rows), *simulation.notes]


def _theory(simulation: Simulation) -> str:
    if simulation.formula:
        return f"the mean of per-batch values, in {simulation.expected_by}: {simulation.formula}"
    by = {"closed form": "a closed form", "integral": "an integral over the distribution of the errors", "": ""}
    return f"expected values come from {by[simulation.expected_by]}"


def _ended(last: SimulationRow, wanted: int) -> str:
    done = f"interrupted {'at' if last.batches < wanted else 'after'} size {size(last.size)}"
    return f"{done}, after {last.batches:,} of its {wanted:,} batches" if last.batches < wanted else done


def _checked(simulation: Simulation) -> Iterator[str]:
    """How far the figures lie from what is expected: a reader sees at once whether to believe them."""
    estimates = [estimate for row in simulation.rows for estimate in (row.pooled, row.mean)]
    off = [abs(estimate.deviations) for estimate in estimates if estimate.deviations is not None]
    if off:
        yield f"the figures are within {math.ceil(10 * max(off)) / 10:.1f} standard errors of what is expected"


def _undefined(rows: Sequence[SimulationRow]) -> Iterator[str]:
    some = [row for row in rows if row.undefined]
    if some:
        listed = ", ".join(f"{row.undefined:,} of {row.batches:,} at size {size(row.size)}" for row in some[:3])
        more = f" and at {len(some) - 3} more sizes" if len(some) > 3 else ""
        yield f"batches without a value are left out of the mean: {listed}{more}"


def _sizes(chosen: list[SimulationRow], rows: Sequence[SimulationRow]) -> str:
    """``every size``, ``from size 100 on``, ``size 1 and 7``."""
    sizes, every = [row.size for row in chosen], [row.size for row in rows]
    if sizes == every:
        return "every size"
    if len(sizes) > 1 and sizes == every[-len(sizes) :]:
        return f"from size {size(sizes[0])} on"
    if len(sizes) > 1 and sizes == every[: len(sizes)]:
        return f"up to size {size(sizes[-1])}"
    return f"size {' and '.join(map(size, sizes[:4]))}" + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else "")
