"""The parts of a difference: each cause is planted in a world whose numbers are known, and found with its size."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.comparisons import ADDS, SAMPLES, World, comparison, made

from batchproof.scripts.compare import plan
from batchproof.scripts.compare.bill import change, decimals_of, differences, figure
from batchproof.scripts.compare.comparison import Comparison
from batchproof.scripts.compare.plan import Question
from batchproof.scripts.compare.record import PassReading, Setting
from batchproof.scripts.compare.split import DifferenceCause, SeedReadings, mean_parts, parts
from batchproof.scripts.run import Epoch, MeasuredAccumulator, Observation

EVALUATION = World(phase="evaluation", training=False)


def amounts(found: Comparison, size: int = 128) -> dict[DifferenceCause, float]:
    """The parts at a batch size that are more than rounding."""
    [number] = found.numbers
    [row] = [row for row in number.rows if row.size == size]
    return {part.cause: part.mean.value for part in row.parts if abs(part.mean.value) > 1e-12}


def updates_at(size: int) -> int:
    return math.ceil(SAMPLES / size)


def test_fewer_updates_in_an_evaluation_are_all_there_is() -> None:
    gap = EVALUATION.loss(updates_at(128), 0.01) - EVALUATION.loss(updates_at(16), 0.01)
    assert amounts(comparison(EVALUATION)) == {DifferenceCause.UPDATES: pytest.approx(gap)}


def test_a_smaller_batch_has_more_updates_and_the_control_run_stops_early() -> None:
    found = comparison(EVALUATION, 128, 16)
    gap = EVALUATION.loss(updates_at(16), 0.01) - EVALUATION.loss(updates_at(128), 0.01)
    assert amounts(found, 16) == {DifferenceCause.UPDATES: pytest.approx(gap)}
    assert "more updates in an epoch (20 instead of 3)" in found.headline


def test_measured_while_training() -> None:
    world, found = World(), amounts(comparison(World()))
    lag = {}
    for size in (16, 128):
        count = updates_at(size)
        on_the_way = math.fsum(world.loss(n, 0.01) for n in range(count)) / count
        lag[size] = on_the_way - world.loss(count, 0.01)
    assert found[DifferenceCause.TRAINING] == pytest.approx(lag[128] - lag[16])
    assert set(found) == {DifferenceCause.TRAINING, DifferenceCause.UPDATES}


def test_what_averaging_adds() -> None:
    found = amounts(comparison(replace(EVALUATION, averaging=lambda size: -1 / size)))
    assert found.pop(DifferenceCause.ARITHMETIC) == pytest.approx(1 / 16 - 1 / 128)
    assert set(found) == {DifferenceCause.UPDATES}


def test_what_a_short_last_batch_adds() -> None:
    found = amounts(comparison(replace(EVALUATION, short=lambda size: 0.03 if SAMPLES % size else 0.0)))
    assert found.pop(DifferenceCause.SHORT_BATCH) == pytest.approx(0.03)
    assert set(found) == {DifferenceCause.UPDATES}


def test_another_learning_rate() -> None:
    world = replace(EVALUATION, rate=lambda size: 0.01 * size / 16)
    found = amounts(comparison(world))
    many, few = updates_at(16), updates_at(128)
    assert found == {
        DifferenceCause.UPDATES: pytest.approx(world.loss(few, 0.08) - world.loss(many, 0.08)),
        DifferenceCause.RATE: pytest.approx(world.loss(many, 0.08) - world.loss(many, 0.01)),
    }


def test_a_sum_takes_longer_steps() -> None:
    world = World(training=True, is_sum=True, rate=lambda size: 0.001)
    found = comparison(world)
    many = updates_at(16)
    assert amounts(found)[DifferenceCause.RATE] == pytest.approx(world.loss(many, 0.128) - world.loss(many, 0.016))
    assert DifferenceCause.REST not in amounts(found)
    [advice] = [advice for advice in found.advice if advice.title == "the loss is a sum"]
    assert advice.is_mistake
    assert "8 times" in advice.text


def test_samples_left_out() -> None:
    world = replace(EVALUATION, scored=lambda size: SAMPLES // size * size, tail=0.001)
    found = comparison(world)
    assert amounts(found)[DifferenceCause.LEFT_OUT] == pytest.approx(-0.001 * (SAMPLES % 128))
    assert set(amounts(found)) == {DifferenceCause.LEFT_OUT, DifferenceCause.UPDATES}
    assert any(advice.title == "samples left out" and "scores 256" in advice.text for advice in found.advice)
    assert found.exit_status == 1


def test_statistics_of_the_batch_in_evaluation() -> None:
    seen = Observation("statistics", "BatchNorm is in training mode", ADDS, False, "call model.eval()")
    world = replace(EVALUATION, statistics=lambda size: 4 / size, seen=(seen,))
    found = comparison(world)
    assert amounts(found)[DifferenceCause.STATISTICS] == pytest.approx(4 / 128 - 4 / 16)
    assert set(amounts(found)) == {DifferenceCause.STATISTICS, DifferenceCause.UPDATES}
    [advice] = [advice for advice in found.advice if advice.place == ADDS and "BatchNorm" in advice.title]
    assert "-0.219 of loss at 128" in advice.text


def test_both_at_once() -> None:
    seen = Observation("statistics", "BatchNorm is in training mode", ADDS, False)
    world = replace(
        EVALUATION,
        statistics=lambda size: 4 / size,
        seen=(seen,),
        scored=lambda size: SAMPLES // size * size,
        tail=0.001,
    )
    found = amounts(comparison(world))
    assert found[DifferenceCause.STATISTICS] == pytest.approx(4 / 128 - 4 / 16)
    assert found[DifferenceCause.LEFT_OUT] == pytest.approx(-0.001 * (SAMPLES % 128))
    assert set(found) == {DifferenceCause.STATISTICS, DifferenceCause.LEFT_OUT, DifferenceCause.UPDATES}


def test_the_noise_of_gradients_is_the_rest_and_seeds_give_its_error() -> None:
    draws = {(16, 0): 0.01, (16, 1): -0.03, (16, 2): 0.02, (128, 0): 0.05, (128, 1): 0.01, (128, 2): 0.06}
    found = comparison(replace(EVALUATION, noise=lambda size, seed: draws.get((size, seed), 0.0)), seeds=3)
    gaps = [draws[128, seed] - draws[16, seed] for seed in range(3)]
    [number] = found.numbers
    rest = number.rows[-1].part(DifferenceCause.REST)
    assert rest is not None
    centre = sum(gaps) / 3
    assert rest.value == pytest.approx(centre)
    spread = math.sqrt(sum((gap - centre) ** 2 for gap in gaps) / 2 / 3)
    assert rest.standard_error == pytest.approx(spread)
    assert found.seeds == 3


def test_the_rest_is_what_the_last_control_run_lies_off_the_base() -> None:
    world = World(noise=lambda size, seed: 1 / size, averaging=lambda size: 0.5 / size)
    question = Question((16, 128), 1)
    done = made(world, question).done
    plain, base = done[Setting(128)], done[Setting(16)]
    control = done[plan.same_updates(plain, base, ())]
    honest = control.readings[0].values.settled - base.readings[0].values.settled
    assert amounts(comparison(world, 16, 128))[DifferenceCause.REST] == pytest.approx(honest)


def test_without_control_runs_what_is_real_is_the_rest() -> None:
    found = comparison(EVALUATION, controls=False)
    assert set(amounts(found)) == {DifferenceCause.REST}
    assert any("without control runs" in note for note in found.notes)


values = st.floats(-1e3, 1e3, allow_nan=False)
maybe = st.one_of(st.none(), values)


@st.composite
def readings(draw: st.DrawFn) -> PassReading:
    phase = draw(st.sampled_from(["training", "evaluation"]))
    averaged, weighted = draw(st.one_of(st.just((None, None)), st.tuples(values, values)))
    measured = Epoch(1, draw(values), draw(maybe), averaged, weighted, averaged, draw(maybe))
    row = MeasuredAccumulator("loss", "total", (), ADDS, phase, "", draw(st.booleans()), epochs=(measured,))
    return PassReading("loss", phase, 1, ADDS, measured, row)


@st.composite
def runs(draw: st.DrawFn) -> SeedReadings:
    some = st.one_of(st.none(), readings())
    same = draw(st.frozensets(st.sampled_from([DifferenceCause.UPDATES, DifferenceCause.RATE])))
    return SeedReadings(draw(readings()), draw(some), draw(some), draw(some), draw(some), same)


@given(st.lists(st.tuples(runs(), runs()), min_size=1, max_size=4))
def test_parts_add_up(pairs: list[tuple[SeedReadings, SeedReadings]]) -> None:
    each = [parts(run, base) for run, base in pairs]
    gaps = [run.plain.reported - base.plain.reported for run, base in pairs]
    for found, gap in zip(each, gaps):
        assert math.fsum(found.values()) == pytest.approx(gap, abs=1e-9)
    over_seeds = mean_parts(each)
    assert math.fsum(part.value for part in over_seeds.values()) == pytest.approx(sum(gaps) / len(gaps), abs=1e-9)
    assert list(over_seeds)[-1] is DifferenceCause.REST


@given(st.integers(0, 2**32), st.sampled_from([1e-9, 1e-4, 1.0, 37.0, 1e6]))
def test_figures_add_up_as_they_are_shown(seed: int, scale: float) -> None:
    def noise(size: int, number: int) -> float:
        return scale * math.sin(seed + 7.7 * size + number) / 3

    world = World(noise=noise, averaging=lambda size: scale / (size + seed % 7), short=lambda size: scale / (3 * size))
    found = comparison(world, seeds=2)
    [number] = found.numbers
    decimals = decimals_of(number)
    first = number.rows[0]
    for row in number.rows[1:]:
        total, shown = differences(row, first, decimals)
        written = [Decimal(change(amount, decimals)) for amount in shown]
        assert sum(written) == Decimal(change(total, decimals))
        reported = [Decimal(figure(each.reported.value, decimals)) for each in (row, first)]
        assert reported[0] - reported[1] == Decimal(change(total, decimals))
        for amount, part in zip(shown[:-1], row.parts):
            assert abs(amount - part.mean.value) <= 0.51 * 10.0**-decimals
        assert abs(shown[-1] - row.parts[-1].mean.value) <= 5 * 10.0**-decimals
