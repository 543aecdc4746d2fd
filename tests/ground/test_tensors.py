"""Two tensors beside each other: the same, close, and how far apart."""

from __future__ import annotations

import pytest
import torch

from batchproof.ground.tensors import close, gap, same

ONE, INF, NAN = (torch.tensor(x, dtype=torch.float64) for x in (1.0, float("inf"), float("nan")))


def test_the_same_is_the_same_to_the_last_bit() -> None:
    assert same(ONE, ONE.clone()) and same(NAN, NAN)
    assert not same(ONE, ONE + 1e-15)
    assert not same(ONE, ONE.float())
    assert not same(ONE, ONE[None])


def test_close_is_relative_to_the_second() -> None:
    assert close(ONE, ONE + 1e-10) and close(NAN, NAN)
    assert not close(ONE, ONE + 1e-8)
    assert not close(ONE, ONE[None])
    assert not close(ONE - ONE + 1e-13, ONE - ONE)
    assert close(ONE - ONE + 1e-13, ONE - ONE, absolute=1e-12)


def test_a_gap_between_what_is_finite_and_what_is_not() -> None:
    assert gap(ONE, INF) == gap(INF, ONE) == gap(NAN, ONE) == gap(INF, -INF) == float("inf")
    assert gap(NAN, NAN) == gap(INF, INF) == 0
    assert gap(ONE, ONE * 1.5) == pytest.approx(1 / 3)
    assert gap(ONE, torch.ones(2)) == float("inf")
