"""Rules for polynomials in the moves of statistics: each gives what the operator gives on the moved values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive.powers import NoPolynomial, Polynomial, apply, moved
from batchproof.derive.recording import Op, replace
from batchproof.derive.site import CallSite

aten = torch.ops.aten
GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64), torch.randn(4, 3, generator=GENERATOR).double()
MASK, PICK = X > 0.3, torch.tensor([4, 0, 0, 5])
#: Two statistics, and how each moves.
STATISTICS = (torch.tensor(0.7, dtype=torch.float64), torch.tensor([0.2, -0.4, 1.1, 0.5], dtype=torch.float64))


def at_centres() -> tuple[Polynomial, Polynomial]:
    """Samples less a statistic that moves by itself, and less one whose elements move together."""
    none = None
    first = apply(_op(aten.sub.Tensor), (X, moved(STATISTICS[0], {0: none}, 2)), {}, {})
    second = apply(_op(aten.sub.Tensor), (X, moved(STATISTICS[1], {1: STATISTICS[1]}, 2)), {}, {})
    return first, second


def at(first: float, second: float) -> tuple[Tensor, Tensor]:
    """The same with the statistics moved."""
    return X - (STATISTICS[0] + first), X - (STATISTICS[1] + second * STATISTICS[1])


def value(poly: Any, first: float, second: float) -> Tensor:
    """A polynomial's value at a move."""
    total = torch.zeros(poly.shape, dtype=torch.float64)
    for (a, b), (factor, tensor) in poly.terms.items():
        total = total + factor * first**a * second**b * (1.0 if tensor is None else tensor)
    return total


def _op(func: Any) -> Op:
    return Op(func, (), {}, (), (), CallSite(), 0)


A, B = "a", "b"  # stand for the two polynomials in the arguments below

RULES = [
    (aten.add.Tensor, (A, B), {}),
    (aten.add.Tensor, (A, B), {"alpha": -3}),
    (aten.add.Tensor, (2.5, A), {}),
    (aten.sub.Tensor, (X, A), {}),
    (aten.rsub.Scalar, (A, 2.0), {}),
    (aten.mul.Tensor, (A, B), {}),
    (aten.mul.Tensor, (A, X), {}),
    (aten.square.default, (A,), {}),
    (aten.pow.Tensor_Scalar, (A, 3), {}),
    (aten.div.Tensor, (A, X), {}),
    (aten.div.Tensor, (A, 4.0), {}),
    (aten.neg.default, (A,), {}),
    (aten.sum.default, (A,), {}),
    (aten.sum.dim_IntList, (A, [1], True), {}),
    (aten.mean.dim, (B, [0]), {}),
    (aten.view.default, (A, [4, 6]), {}),
    (aten.transpose.int, (A, 0, 1), {}),
    (aten.select.int, (B, 1, 2), {}),
    (aten.slice.Tensor, (B, 0, 1, 5, 2), {}),
    (aten.index_select.default, (A, 0, PICK), {}),
    (aten.cumsum.default, (B, 1), {}),
    (aten.clone.default, (A,), {}),
    (aten.mm.default, (A, Y), {}),
    (aten.cat.default, ([A, B, X], 1), {}),
    (aten.stack.default, ([A, B],), {}),
    (aten.where.self, (MASK, A, B), {}),
    (aten.where.self, (MASK, A, X), {}),
    (aten.masked_fill.Scalar, (A, MASK, 7.0), {}),
    (aten.masked_fill.Scalar, (B, MASK, -2.0), {}),
]


@pytest.mark.parametrize(("func", "args", "kwargs"), RULES, ids=lambda value: str(value) if callable(value) else "")
def test_a_rule_gives_what_the_operator_gives(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    centred = dict(zip((A, B), at_centres(), strict=True))
    poly = apply(_op(func), replace(args, (str,), centred.__getitem__), kwargs, {})
    for move in ((0.0, 0.0), (0.5, 0.0), (0.0, -1.5), (-2.0, 3.0)):
        moves = dict(zip((A, B), at(*move), strict=True))
        expected = func(*replace(args, (str,), moves.__getitem__), **kwargs)
        assert poly.shape == tuple(expected.shape)
        torch.testing.assert_close(value(poly, *move), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: (aten.div.Tensor, (X, a)),
        lambda a, b: (aten.div.Tensor, (a, b)),
        lambda a, b: (aten.pow.Tensor_Scalar, (a, 0.5)),
        lambda a, b: (aten.pow.Tensor_Scalar, (a, 8)),
        lambda a, b: (aten.exp.default, (a,)),
        lambda a, b: (aten.where.self, (a, X, X)),
        lambda a, b: (aten.masked_fill.Tensor, (X, MASK, a)),
    ],
)
def test_what_is_no_polynomial_is_not_taken_for_one(call: Callable[..., Any]) -> None:
    func, args = call(*at_centres())
    with pytest.raises(NoPolynomial):
        apply(_op(func), args, {}, {})


def test_of_a_quotient_the_divisor_is_to_blame() -> None:
    first, second = at_centres()
    with pytest.raises(NoPolynomial) as refusal:
        apply(_op(aten.div.Tensor), (first, second), {}, {})
    assert refusal.value.directions == {1}


def test_products_of_too_high_a_power_are_refused() -> None:
    first, _ = at_centres()
    poly = apply(_op(aten.pow.Tensor_Scalar), (first, 4), {}, {})
    with pytest.raises(NoPolynomial):
        apply(_op(aten.mul.Tensor), (poly, poly), {}, {})
