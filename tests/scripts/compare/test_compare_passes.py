"""A function that trains and evaluates has two numbers: its passes are told apart by what they did."""

from __future__ import annotations

import math

import pytest

from batchproof.ground.place import Place
from batchproof.scripts.compare.record import readings_of
from batchproof.scripts.run import Epoch, MeasuredAccumulator

TRAIN, VALIDATE, TEST = (10, 320), (0, 64), (0, 96)


def measured(*kinds: tuple[int, int], names: tuple[str, ...] = ("loss", "total")) -> MeasuredAccumulator:
    epochs = tuple(
        Epoch(number, float(number), 1.0, 2.0, 3.0, 2.0, sizes=((32, 1),), updates=updates, dataset=dataset)
        for number, (updates, dataset) in enumerate(kinds, start=1)
    )
    return MeasuredAccumulator(names[0], "total", names, Place("train.py", 7), "training", "a mean", epochs=epochs)


def told(row: MeasuredAccumulator) -> list[tuple[str, str, int, float]]:
    return [(reading.name, reading.phase, reading.epoch, reading.reported) for reading in readings_of(row)]


def test_one_kind_of_pass_is_as_it_was_measured() -> None:
    assert told(measured(TRAIN, TRAIN)) == [("loss", "training", 1, 1.0), ("loss", "training", 2, 2.0)]


def test_callers_own_names_in_the_order_of_their_calls() -> None:
    found = told(measured(TRAIN, VALIDATE, TRAIN, VALIDATE, names=("train_loss", "val_loss", "total")))
    assert found == [
        ("train_loss", "training", 1, 1.0),
        ("val_loss", "evaluation", 1, 2.0),
        ("train_loss", "training", 2, 3.0),
        ("val_loss", "evaluation", 2, 4.0),
    ]


def test_names_are_made_where_there_are_too_few() -> None:
    assert {name for name, *_ in told(measured(TRAIN, VALIDATE))} == {"loss, training", "loss, evaluation"}
    names = [name for name, *_ in told(measured(TRAIN, VALIDATE, TEST))]
    assert names == ["loss, training", "loss, evaluation on 64", "loss, evaluation on 96"]


@pytest.mark.parametrize(("printed", "averaged"), [(3.0, 3.0), (2.0, 2.0), (2.5, 2.0)])
def test_the_average_that_the_script_takes(printed: float, averaged: float) -> None:
    epoch = Epoch(1, printed, 3.0, 2.0, 3.0, 2.0, sizes=((32, 1),))
    [reading] = readings_of(
        MeasuredAccumulator("loss", "total", ("loss",), Place("a.py", 1), "training", "", epochs=(epoch,))
    )
    assert reading.averaged == averaged


def test_a_number_that_is_none_and_one_that_is_not_there() -> None:
    gone = Epoch(1, None, None, None, None, None)
    broken = Epoch(2, None, None, None, None, None, undefined=3)
    row = MeasuredAccumulator("loss", "total", ("loss",), Place("a.py", 1), "training", "", epochs=(gone, broken))
    [reading] = readings_of(row)
    assert math.isnan(reading.reported)
