"""What `explain` says of the hundred losses and metrics of `public_functions` is what is expected of it."""

import inspect

import pytest
from tests.explanation.public_functions import EXPECTATIONS, ask

#: One of each verdict, and those that no recorded program shows: NumPy, counts in Python, BatchNorm in a projector.
DOZEN = (
    "wape", "max_error", "explained_variance", "f1_from_counts", "balanced_cross_entropy", "diagonal_of_box_iou",
    "clip_loss", "SimSiamLoss", "vae_loss_mixed", "GradientPenalty", "cox_ph_loss", "mse_of_a_column",
)  # fmt: skip


def test_there_are_a_hundred_and_each_line_stands_once_in_its_source():
    assert len(EXPECTATIONS) == 100
    for name, expected in EXPECTATIONS.items():
        target = expected.target if inspect.isfunction(expected.target) else type(expected.target)
        source = inspect.getsource(target)
        body = source[min(source.find(word) for word in ("\ndef ", "\nclass ") if word in source) :]
        assert not expected.line or body.count(expected.line) == 1, name


@pytest.mark.parametrize("name", DOZEN)
def test_a_dozen_of_them(name):
    assert ask(name).misses == ()


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in EXPECTATIONS if name not in DOZEN])
def test_the_others(name):
    assert ask(name).misses == ()
