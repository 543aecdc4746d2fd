"""Sums around a statistic as power sums: what of them hangs on the samples, written out by the rules of algebra.

(x - s)^2 around a centre c, with s = c + e, is (x - c)^2 - 2 (x - c) e + e^2: a polynomial in e, whose coefficients
are sums over samples.  They are kept, and the sum at any s is made of them.  Each operation between the samples and the
sum has a rule for polynomials here; a statistic that enters by an operation without one (a divisor, an exponent) stays
at its centre.

Power sums around a fixed centre lose fewer digits than the same sum at several centres: as many as the distance between
samples and centre has, in place of twice as many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batchproof.derive.recording import Op, leaves, replace

#: Powers of the moves of the statistics, one for each direction that is followed.
Powers = tuple[int, ...]
Term = tuple[float, Tensor | None]  # a number times a tensor; None stands for ones
HIGHEST = 7


class NoPolynomial(Exception):
    """An operation has no rule; ``directions`` enter by it."""

    def __init__(self, directions: frozenset[int]) -> None:
        super().__init__("no polynomial")
        self.directions = directions


class NoRule(Exception):
    """The rule does not hold for these arguments."""


@dataclass(frozen=True)
class Polynomial:
    """A tensor that hangs on the moves of statistics; its terms may be smaller than its shape, to be expanded."""

    shape: tuple[int, ...]
    terms: dict[Powers, Term]

    def unit(self, powers: Powers) -> Tensor:
        """A coefficient in full size, without its number.

        The size is another coefficient's, never a number: a selection's length must not pass for the batch's.
        """
        _, tensor = self.terms[powers]
        if tensor is not None and tuple(tensor.shape) == self.shape:
            return tensor
        large = next((t for _, t in self.terms.values() if t is not None and tuple(t.shape) == self.shape), None)
        if large is None:
            raise NoRule
        ones = torch.ones_like(large)
        return ones if tensor is None else ones * tensor

    def full(self, powers: Powers) -> Tensor:
        """A coefficient in full size."""
        factor, unit = self.terms[powers][0], self.unit(powers)
        return unit if factor == 1 else unit * factor

    @property
    def directions(self) -> frozenset[int]:
        return frozenset(number for powers in self.terms for number, power in enumerate(powers) if power)


def moved(value: Tensor, moves: dict[int, Tensor | None], count: int) -> Polynomial:
    """A statistic at its centre, and how it moves in some of ``count`` directions; None moves it by one everywhere."""
    none = (0,) * count
    terms: dict[Powers, Term] = {none: (1.0, value)}
    for direction, move in moves.items():
        terms[(*none[:direction], 1, *none[direction + 1 :])] = (1.0, move)
    return Polynomial(tuple(value.shape), terms)


def apply(op: Op, args: Any, kwargs: Any, products: dict[tuple[int, int], Tensor]) -> Any:
    """An operation on arguments some of which are polynomials.

    Raises:
        NoPolynomial: there is no rule for it.
    """
    given = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Polynomial)]
    rule = _RULES.get(op.func._schema.name.partition("::")[2])
    involved = frozenset[int]().union(*(leaf.directions for leaf in given))
    if rule is None:
        raise NoPolynomial(involved)
    try:
        return rule(Call(op, args, kwargs, products))
    except NoRule:
        blamed = frozenset[int]().union(*(leaf.directions for leaf in _entering(op, args)))
        raise NoPolynomial(blamed or involved) from None


def _entering(op: Op, args: Any) -> list[Polynomial]:
    """Of a quotient, the divisor is to blame."""
    blamed = args[1:2] if "div" in op.func._schema.name else args
    return [leaf for leaf in leaves(blamed) if isinstance(leaf, Polynomial)]


@dataclass(frozen=True)
class Call:
    """An operation and its arguments."""

    op: Op
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    products: dict[tuple[int, int], Tensor]  # known by what was multiplied: each is made once

    def run(self, *args: Any) -> Any:
        return self.op.func(*args, **self.kwargs)


Rule = Callable[[Call], Polynomial]


def _numbers(x: Any, like: Polynomial) -> Polynomial:
    """A tensor or a number as a polynomial without moves."""
    if isinstance(x, Polynomial):
        return x
    none = (0,) * len(next(iter(like.terms)))
    if isinstance(x, Tensor):
        return Polynomial(tuple(x.shape), {none: (1.0, x)})
    return Polynomial((), {none: (float(x), None)})


def _pair(call: Call) -> tuple[Polynomial, Polynomial]:
    one = next(leaf for leaf in call.args[:2] if isinstance(leaf, Polynomial))
    return _numbers(call.args[0], one), _numbers(call.args[1], one)


def _added(call: Call, sign: float = 1.0) -> Polynomial:
    left, right = _pair(call)
    sign *= float(call.kwargs.get("alpha", 1))
    return _sum(left, right, sign)


def _subtracted_from(call: Call) -> Polynomial:
    left, right = _pair(call)
    if len(call.args) > 2 or call.kwargs:
        raise NoRule
    return _sum(right, left, -1.0)


def _sum(left: Polynomial, right: Polynomial, sign: float) -> Polynomial:
    terms = dict(left.terms)
    for powers, (factor, tensor) in right.terms.items():
        terms[powers] = _plus(terms.get(powers), (sign * factor, tensor))
    return Polynomial(_together_in(left.shape, right.shape), terms)


def _together_in(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that two broadcast to."""
    shape: tuple[int, ...] = tuple(torch.broadcast_shapes(left, right))  # type: ignore[no-untyped-call]
    return shape


def _plus(one: Term | None, other: Term) -> Term:
    if one is None or one[0] == 0:
        return other
    if one[1] is other[1]:
        return one[0] + other[0], one[1]
    if one[0] == other[0] and one[1] is not None and other[1] is not None:
        return one[0], one[1] + other[1]
    a, b = (_scaled(term) for term in (one, other))
    return 1.0, torch.as_tensor(a + b)


def _scaled(term: Term) -> Any:
    factor, tensor = term
    return factor if tensor is None else tensor if factor == 1 else tensor * factor


def _multiplied(call: Call) -> Polynomial:
    return _product(*_pair(call), call)


def _product(left: Polynomial, right: Polynomial, call: Call) -> Polynomial:
    terms: dict[Powers, Term] = {}
    for a, (f, x) in left.terms.items():
        for b, (g, y) in right.terms.items():
            powers = tuple(i + k for i, k in zip(a, b, strict=True))
            if sum(powers) > HIGHEST:
                raise NoRule
            terms[powers] = _plus(terms.get(powers), (f * g, _times(x, y, call)))
    return Polynomial(_together_in(left.shape, right.shape), terms)


def _times(x: Tensor | None, y: Tensor | None, call: Call) -> Tensor | None:
    if x is None or y is None:
        return y if x is None else x
    key = (min(id(x), id(y)), max(id(x), id(y)))
    if key not in call.products:
        call.products[key] = x * y
        call.products[(-id(call.products[key]), 0)] = call.products[key]  # alive, and so its identity
    return call.products[key]


def _squared(call: Call) -> Polynomial:
    return _product(call.args[0], call.args[0], call)


def _power(call: Call) -> Polynomial:
    base, exponent = call.args
    if not isinstance(base, Polynomial) or not isinstance(exponent, (int, float)) or exponent not in range(1, 8):
        raise NoRule
    result, square, left = None, base, int(exponent)
    while left:
        if left % 2:
            result = square if result is None else _product(result, square, call)
        left //= 2
        square = _product(square, square, call) if left else square
    assert result is not None
    return result


def _quotient(call: Call) -> Polynomial:
    left, right = call.args
    if isinstance(right, Polynomial) or call.kwargs:
        raise NoRule
    terms: dict[Powers, Term] = {}
    for powers, (factor, tensor) in left.terms.items():
        if isinstance(right, (int, float)):
            terms[powers] = (factor / right, tensor)
        else:
            terms[powers] = (factor, (1.0 if tensor is None else tensor) / right)
    shape = _together_in(left.shape, tuple(right.shape)) if isinstance(right, Tensor) else left.shape
    return Polynomial(shape, terms)


def _negative(call: Call) -> Polynomial:
    poly = call.args[0]
    return Polynomial(poly.shape, {powers: (-factor, tensor) for powers, (factor, tensor) in poly.terms.items()})


def _each(call: Call) -> Polynomial:
    """An operation that is linear in its first argument: each coefficient on its own."""
    poly, *rest = call.args
    if not isinstance(poly, Polynomial) or any(isinstance(leaf, Polynomial) for leaf in leaves((rest, call.kwargs))):
        raise NoRule
    terms = {powers: (factor, call.run(poly.unit(powers), *rest)) for powers, (factor, _) in poly.terms.items()}
    return Polynomial(tuple(next(iter(terms.values()))[1].shape), {**terms})


def _collected(terms: dict[Powers, Tensor]) -> Polynomial:
    return Polynomial(tuple(next(iter(terms.values())).shape), {powers: (1.0, x) for powers, x in terms.items()})


def _same(call: Call) -> Polynomial:
    if not isinstance(call.args[0], Polynomial):
        raise NoRule
    return call.args[0]


def _cast(call: Call) -> Polynomial:
    dtype = call.kwargs.get("dtype", torch.float64)
    if not isinstance(call.args[0], Polynomial) or dtype not in (None, torch.float64):
        raise NoRule
    return call.args[0]


def _together(call: Call) -> Polynomial:
    """Linear in all its tensors at once: each power of all of them on its own."""
    powers = dict.fromkeys(p for leaf in leaves(call.args) if isinstance(leaf, Polynomial) for p in leaf.terms)
    none = (0,) * len(next(iter(powers)))

    def part(at: Powers) -> Tensor:
        def of(leaf: Any) -> Any:
            if isinstance(leaf, Polynomial):
                return leaf.full(at) if at in leaf.terms else torch.zeros_like(leaf.full(none))
            return leaf if at == none or not leaf.dtype.is_floating_point else torch.zeros_like(leaf)

        result: Tensor = call.run(*replace(call.args, (Polynomial, Tensor), of))
        return result

    return _collected({at: part(at) for at in powers})


def _selected(call: Call) -> Polynomial:
    if isinstance(call.args[0], Polynomial):
        raise NoRule
    return _together(call)


def _filled(call: Call) -> Polynomial:
    poly, mask, value = call.args
    if not isinstance(poly, Polynomial) or isinstance(mask, Polynomial) or isinstance(value, Polynomial):
        raise NoRule
    none = (0,) * len(next(iter(poly.terms)))
    return _collected({at: call.run(poly.full(at), mask, value if at == none else 0) for at in poly.terms})


def _bilinear(call: Call) -> Polynomial:
    left, right = _pair(call)
    terms: dict[Powers, Term] = {}
    for a in left.terms:
        for b in right.terms:
            powers = tuple(i + k for i, k in zip(a, b, strict=True))
            if sum(powers) > HIGHEST:
                raise NoRule
            product = call.run(left.unit(a), right.unit(b))
            terms[powers] = _plus(terms.get(powers), (left.terms[a][0] * right.terms[b][0], product))
    return Polynomial(tuple(product.shape), terms)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        """sum mean view _unsafe_view reshape unsqueeze squeeze permute transpose t expand select slice diagonal flip
        index_select index gather real imag conj _conj trace cumsum narrow unfold""".split(),
        _each,
    ),
    **dict.fromkeys("clone detach alias lift_fresh contiguous".split(), _same),
    **dict.fromkeys("mm bmm mv dot".split(), _bilinear),
    **dict.fromkeys("cat stack index_add scatter_add".split(), _together),
    "add": _added,
    "sub": lambda call: _added(call, -1.0),
    "rsub": _subtracted_from,
    "mul": _multiplied,
    "square": _squared,
    "pow": _power,
    "div": _quotient,
    "neg": _negative,
    "_to_copy": _cast,
    "where": _selected,
    "masked_fill": _filled,
}
