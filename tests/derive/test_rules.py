"""One rule a time: the placement that an operator's outputs get, by what it is and by its arguments.

Every case is recorded from a line of plain torch. The kind is known by hand; `test_rules_hold_on_generic_values` holds
each against the operator itself, on a whole and on its pieces.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from batchproof.derive.classify import Classifier
from batchproof.derive.content import name_values
from batchproof.derive.program import Program, align
from batchproof.derive.record import record

SIZES = (12, 15, 25)

Case = tuple[str, Callable[..., Tensor], str, int]

# x: (n, 3) floats; y: (n,) whole numbers below 3. The last operation's first output, its kind, and where samples lie.
SHARED = torch.linalg.lu_factor(torch.eye(3, dtype=torch.float64) + 0.1)


def _square(x: Tensor) -> Tensor:
    return x[:, :, None] * x[:, None, :] + torch.eye(3, dtype=x.dtype)


def _factors(x: Tensor) -> tuple[Tensor, Tensor]:
    factors, pivots, _ = torch.linalg.lu_factor_ex(_square(x))
    return factors, pivots


CASES: list[Case] = [
    ("elementwise", lambda x, y: x.exp(), "rows", 0),
    ("elementwise, broadcast", lambda x, y: x * y[:, None], "rows", 0),
    ("pairs by broadcasting", lambda x, y: y[:, None] - y[None], "opaque", 0),
    ("sum over samples", lambda x, y: x.sum(0), "sum", 0),
    ("sum within a sample", lambda x, y: x.sum(1), "rows", 0),
    ("maximum over samples", lambda x, y: x.amax(0), "max", 0),
    ("minimum of all", lambda x, y: x.amin(), "min", 0),
    ("any", lambda x, y: (x > 1).any(), "any", 0),
    ("all", lambda x, y: (x > 1).all(), "all", 0),
    ("maximum of truths", lambda x, y: (x > 1).amax(0), "any", 0),
    ("product over samples", lambda x, y: x.prod(0), "opaque", 0),
    ("place of the largest", lambda x, y: x.argmax(0), "opaque", 0),
    ("place of the largest, in a sample", lambda x, y: x.argmax(1), "rows", 0),
    ("running sum over samples", lambda x, y: x.cumsum(0), "opaque", 0),
    ("running sum within a sample", lambda x, y: x.cumsum(1), "rows", 0),
    ("running product of whole numbers", lambda x, y: y.cumprod(0), "opaque", 0),
    ("sort over samples", lambda x, y: y.sort().values, "bag", 0),
    ("sort within a sample", lambda x, y: x.sort(1).values, "rows", 0),
    ("sum of what is sorted", lambda x, y: y.sort().values.sum(), "sum", 0),
    ("sorted against unsorted", lambda x, y: y.sort().values - y, "opaque", 0),
    ("softmax over samples", lambda x, y: torch.softmax(x, 0), "opaque", 0),
    ("softmax within a sample", lambda x, y: torch.softmax(x, 1), "rows", 0),
    ("median", lambda x, y: x.median(0).values, "opaque", 0),
    ("flip over samples", lambda x, y: y.flip(0), "bag", 0),
    ("flip within a sample", lambda x, y: x.flip(1), "rows", 0),
    ("flip against the samples", lambda x, y: y * y.flip(0), "opaque", 0),
    ("roll over samples", lambda x, y: x.roll(1, 0), "bag", 0),
    ("transpose", lambda x, y: x.t(), "rows", 1),
    ("reshape for a transpose", lambda x, y: x.reshape(3, -1), "opaque", 0),
    ("flattened", lambda x, y: x.reshape(-1), "rows", 0),
    ("flattened and back", lambda x, y: x.reshape(-1).reshape(-1, 3), "rows", 0),
    ("one sample", lambda x, y: x[0], "opaque", 0),
    ("the first thousand", lambda x, y: x[:1000] * 1, "opaque", 0),
    ("all of a slice", lambda x, y: x[:], "rows", 0),
    ("one feature", lambda x, y: x[:, 1], "rows", 0),
    ("joined", lambda x, y: torch.cat([x, 2 * x]), "blocks", 0),
    ("joined and parted", lambda x, y: torch.cat([x, 2 * x]).split(len(x))[1] * 1, "rows", 0),
    ("stacked", lambda x, y: torch.stack([x, 2 * x]), "rows", 1),
    ("stacked and read the other way", lambda x, y: torch.stack([y, 2 * y]).reshape(-1, 2), "opaque", 0),
    ("product of matrices over samples", lambda x, y: x.t() @ x, "sum", 0),
    ("pairs by a product", lambda x, y: x @ x.t(), "opaque", 0),
    ("linear layer", lambda x, y: x @ torch.ones(3, 2, dtype=torch.float64), "rows", 0),
    ("table by number", lambda x, y: torch.arange(3.0, dtype=torch.float64)[y], "rows", 0),
    ("own place of each sample", lambda x, y: x[torch.arange(len(y)), y], "rows", 0),
    ("samples by number", lambda x, y: x[y], "opaque", 0),
    ("selected by a mask", lambda x, y: x[y > 0], "rows", 0),
    ("gathered within a sample", lambda x, y: x.gather(1, y[:, None]), "rows", 0),
    ("gathered over samples", lambda x, y: x.gather(0, y[:, None].expand(-1, 3)), "opaque", 0),
    ("counts with a length", lambda x, y: torch.bincount(y, minlength=3), "sum", 0),
    ("counts without a length", lambda x, y: torch.bincount(y), "opaque", 0),
    ("bins with edges", lambda x, y: torch.histc(x, 4, -3, 3), "sum", 0),
    ("added into zeros", lambda x, y: torch.zeros(3, 3, dtype=x.dtype).index_add(0, y, x), "sum", 0),
    ("added into ones", lambda x, y: torch.ones(3, 3, dtype=x.dtype).index_add(0, y, x), "opaque", 0),
    ("put, the last one stays", lambda x, y: torch.zeros(3, dtype=x.dtype).scatter(0, y, x[:, 0]), "opaque", 0),
    (
        "largest into what is there",
        lambda x, y: torch.zeros(3, dtype=x.dtype).scatter_reduce(0, y, x[:, 0], "amax"),
        "max",
        0,
    ),
    (
        "largest instead of what is there",
        lambda x, y: torch.zeros(3, dtype=x.dtype).scatter_reduce(0, y, x[:, 0], "amax", include_self=False),
        "opaque",
        0,
    ),
    ("put within a sample", lambda x, y: torch.zeros_like(x).scatter(1, y[:, None], 1.0), "rows", 0),
    ("rank among shared", lambda x, y: torch.searchsorted(torch.arange(3.0, dtype=x.dtype), x), "rows", 0),
    ("rank among samples", lambda x, y: torch.searchsorted(y.sort().values, y), "opaque", 0),
    ("positions", lambda x, y: torch.arange(len(y)), "index", 0),
    ("positions as numbers", lambda x, y: torch.arange(len(y)) * y, "opaque", 0),
    ("positions moved", lambda x, y: torch.arange(len(y)) + 1, "opaque", 0),
    ("positions from three", lambda x, y: torch.arange(3, len(y) + 3), "opaque", 0),
    ("places where it is true", lambda x, y: torch.nonzero(x[:, 0] > 0)[:, 0], "index", 0),
    ("places in two dimensions", lambda x, y: torch.nonzero(x > 0), "opaque", 0),
    ("two sorts", lambda x, y: x[:, 0].sort().values * y.sort().values, "opaque", 0),
    ("two selections", lambda x, y: x[y < 3] * x[x[:, 0] < 1e9], "opaque", 0),
    ("a selection and all", lambda x, y: x[y < 3] * x, "opaque", 0),
    ("upper triangle by a large number", lambda x, y: x.triu(-1000), "opaque", 0),
    ("the first part of a thousand", lambda x, y: x.split(1000)[0] * 1, "opaque", 0),
    ("all as one part", lambda x, y: x.chunk(1)[0] * 1, "rows", 0),
    ("norm of each sample", lambda x, y: x.renorm(2, 0, 1.0), "rows", 0),
    ("norm over samples", lambda x, y: x.renorm(2, -1, 1e3), "opaque", 0),
    ("equations of each sample", lambda x, y: torch.linalg.lu_solve(*_factors(x), x[:, :, None]), "rows", 0),
    ("equations that all share", lambda x, y: torch.linalg.lu_solve(*SHARED, x[:, :, None]), "rows", 0),
    ("a column for each sample", lambda x, y: torch.linalg.solve_triangular(SHARED[0], x.t(), upper=True), "rows", 1),
    ("equations of all samples", lambda x, y: torch.linalg.lu_solve(*SHARED, x.view(-1, 3)[:3]), "opaque", 0),
    ("the inverse of each sample", lambda x, y: torch.linalg.inv_ex(_square(x)).inverse, "rows", 0),
    ("least squares", lambda x, y: torch.linalg.lstsq(_square(x), x[:, :, None]).solution, "rows", 0),
    (
        "without a rule, on each sample",
        lambda x, y: torch.linalg.householder_product(x[:, :, None] * x[:, None, :], x),
        "rows",
        0,
    ),
    ("without a rule, over samples", lambda x, y: torch.linalg.householder_product(x, y[:3] * 0.5), "opaque", 0),
    (
        "without a rule, from a picture that all samples make",
        lambda x, y: F.grid_sample(x[None, None], x[None, :, :, None].expand(1, -1, 3, 2), align_corners=True),
        "opaque",
        0,
    ),
    ("rounded around a sum", lambda x, y: (x - x.sum(0)).floor(), "opaque", 0),
    ("divided by a sum and rounded", lambda x, y: torch.div(x, x.sum(0), rounding_mode="floor"), "opaque", 0),
    ("above a sum", lambda x, y: (x > x.sum(0)).double(), "opaque", 0),
    ("chosen by a sum", lambda x, y: torch.where(x.sum(0) > 0, x, 2 * x), "opaque", 0),
    ("strides of rows", lambda x, y: x.as_strided((len(y), 3), (3, 1)), "rows", 0),
    ("windows within a sample", lambda x, y: x.as_strided((len(y), 2, 2), (3, 1, 1)), "rows", 0),
    ("windows, samples second", lambda x, y: x.as_strided((2, len(y), 2), (1, 3, 1)), "rows", 1),
    ("windows into the next sample", lambda x, y: x.as_strided((len(y), 2, 3), (2, 1, 1)), "opaque", 0),
    ("strides of columns", lambda x, y: x.t().as_strided((3, len(y)), (len(y), 1)), "opaque", 0),
    ("strides of a part", lambda x, y: x[:, :2].as_strided((len(y), 2), (2, 1)), "opaque", 0),
    ("sum within, samples last", lambda x, y: x.t().sum(0), "rows", 0),
    ("sum of distinct values", lambda x, y: torch.unique(y).sum(), "opaque", 0),
    ("place of the maximum", lambda x, y: x.max(0)[1] * 1, "opaque", 0),
    ("bins by the data's own edges", lambda x, y: torch.histc(x, 4), "opaque", 0),
    ("a product added to ones", lambda x, y: torch.ones(3, 3, dtype=x.dtype).addmm(x.t(), x), "opaque", 0),
    ("convolved", lambda x, y: F.conv1d(x[:, None], torch.ones(1, 1, 2, dtype=x.dtype)), "rows", 0),
    ("convolved over samples", lambda x, y: F.conv1d(x.t()[None], torch.ones(1, 3, 2, dtype=x.dtype)), "opaque", 0),
    ("pooled over samples", lambda x, y: F.avg_pool1d(x.t()[None], 3, 1, 1), "opaque", 0),
    ("normalised over samples", lambda x, y: F.layer_norm(x.t(), (len(y),)), "opaque", 0),
    ("written into zeros", lambda x, y: torch.zeros(3, dtype=x.dtype).index_put((y,), x[:, 0]), "opaque", 0),
    (
        "added at places of ones",
        lambda x, y: torch.ones(3, dtype=x.dtype).index_put((y,), x[:, 0], accumulate=True),
        "opaque",
        0,
    ),
    ("scattered into ones", lambda x, y: torch.ones(3, dtype=x.dtype).scatter_add(0, y, x[:, 0]), "opaque", 0),
    ("scattered over samples", lambda x, y: x.scatter(0, y[:, None].expand(-1, 3), x), "opaque", 0),
    ("copied into zeros", lambda x, y: torch.zeros(3, dtype=x.dtype).index_copy(0, y, x[:, 0]), "opaque", 0),
    (
        "filled with zeros, and added",
        lambda x, y: torch.full((3,), 2.0, dtype=x.dtype).index_add(0, y, x[:, 0]),
        "opaque",
        0,
    ),
    ("joined and flipped", lambda x, y: torch.cat([y, y]).flip(0) * torch.cat([y, y]), "opaque", 0),
    ("a bag cut", lambda x, y: y.sort().values.view(-1, 1) * y[:, None], "opaque", 0),
    ("distinct values", lambda x, y: torch.unique(y), "set", 0),
    ("no rule: rows by trial", lambda x, y: torch.cdist(x, torch.ones(2, 3, dtype=x.dtype)), "rows", 0),
    ("no rule: opaque by trial", lambda x, y: torch.cdist(x, x), "opaque", 0),
]


def classified(fn: Callable[..., Tensor], make: Callable[[int], tuple[Tensor, Tensor]]) -> Program:
    runs = [record(fn, make(n)) for n in SIZES]
    program = align(runs, list(SIZES))
    name_values(program, runs)
    Classifier(program, runs, {0, 1}).run()
    return program


def generic(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    labels = torch.cat([torch.arange(3), torch.randint(0, 3, (n - 3,), generator=generator)])
    return torch.randn(n, 3, generator=generator, dtype=torch.float64), labels


def alike(n: int) -> tuple[Tensor, Tensor]:
    return torch.ones(n, 3, dtype=torch.float64), torch.full((n,), 2)


@pytest.mark.parametrize("make", [generic, alike])
@pytest.mark.parametrize(("fn", "kind", "dim"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_kind_follows_from_the_operator_whatever_the_values(
    fn: Callable[..., Tensor], kind: str, dim: int, make: Callable[[int], tuple[Tensor, Tensor]]
) -> None:
    program = classified(fn, make)
    value = program.values[program.result[0].index]
    assert (value.kind.value, value.dim if kind != "opaque" else 0) == (kind, dim)


@pytest.mark.parametrize(
    ("fn", "kind", "dim"), [case[1:] for case in CASES if case[2] in ("rows", "sum", "max", "min", "any", "all")]
)
def test_rules_hold_on_generic_values(fn: Callable[..., Tensor], kind: str, dim: int) -> None:
    x, y = generic(25)
    sizes = [1, 9, 3, 12]
    parts = [fn(a, b) for a, b in zip(x.split(sizes), y.split(sizes), strict=True)]
    if kind == "rows":
        joined = torch.cat(parts, dim)
    else:
        stacked = torch.stack(parts)
        joined = {"sum": stacked.sum, "max": stacked.amax, "min": stacked.amin, "any": stacked.any, "all": stacked.all}[
            kind
        ](0)
    torch.testing.assert_close(joined, fn(x, y))
