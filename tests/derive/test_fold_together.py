"""Several folds as one: each function gets what its own fold gives, and what they share is there once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive import FoldTogether, StatePlan, derive, fold_together
from batchproof.derive.count_table import CountTable, expand, find_table
from batchproof.derive.merge import ANY, MAX, MIN, SUM

N, A, B = 60, 4, 3


def scores(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, A, generator=generator), torch.randint(B, (n,), generator=generator)


def plan(fn: Callable[..., Any], batch: Sequence[Tensor] | None = None) -> StatePlan:
    found = derive(fn, list(batch or scores()), [0] * len(batch or scores()))
    assert isinstance(found, StatePlan)
    return found


def together(*functions: Callable[..., Any]) -> FoldTogether:
    found = fold_together([plan(fn) for fn in functions], scores())
    assert found is not None
    return found


def table(fn: Callable[..., Any], batch: Sequence[Tensor] | None = None) -> CountTable | None:
    found = plan(fn, batch)
    (kept,) = found.kept
    return find_table(found.program, kept)


def pairs(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.bincount(labels * A + logits.argmax(1), minlength=A * B)


# ---------------------------------------------------------------------- which counts tell all


def test_pairs_are_a_table() -> None:
    found = table(pairs)
    assert found is not None
    assert (found.limits, found.factors, found.size) == ((B, A), (A, 1), A * B)
    assert found.guarded == (True, False)  # argmax stays below the size of its dimension


@pytest.mark.parametrize(
    ("fn", "limits", "guarded"),
    [
        (lambda x, y: torch.bincount(x.argmax(-1) + y.mul(A), minlength=A * B), (B, A), (True, False)),
        (lambda x, y: torch.bincount(x.argmax(1) * 5 + y, minlength=4 * 5), (A, 5), (False, True)),
        (lambda x, y: torch.bincount(y * 2 + (x[:, 0] > 0), minlength=2 * B), (B, 2), (True, False)),
        (lambda x, y: torch.bincount(y * 2 + (x[:, 0] > 0).long(), minlength=2 * B), (B, 2), (True, False)),
        (lambda x, y: torch.bincount(y, minlength=B), (B,), (False,)),
        (lambda x, y: torch.bincount(y * A + x.argmax(1), minlength=A * B - 2), (B, A), (True, False)),
    ],
    ids=["the other way round", "labels inside", "truths", "truths cast", "one number", "fewer than all"],
)
def test_other_tables(fn: Callable[..., Any], limits: Any, guarded: Any) -> None:
    logits, labels = scores()
    logits[labels == B - 1, :2] += 9  # the highest places stay free
    found = table(fn, (logits, labels))
    assert found is not None
    assert (found.limits, found.guarded) == (limits, guarded)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: torch.bincount(y * (A - 1) + x.argmax(1), minlength=A * B),
        lambda x, y: torch.bincount(y * A + x.argmax(1), minlength=5000),
        lambda x, y: torch.bincount(y, weights=x[:, 0].double(), minlength=B),
    ],
    ids=["pairs share a place", "too many kinds", "weights"],
)
def test_no_table_of_pairs(fn: Callable[..., Any]) -> None:
    found = table(fn)
    assert found is None or len(found.roots) == 1


# ---------------------------------------------------------------------- what follows from them


def test_expand() -> None:
    """Kinds that did not come add nothing, were it infinity, and are no extremes."""
    counts = torch.tensor([2, 0, 3])
    each = torch.tensor([[1.0, 2.0], [float("inf"), float("nan")], [0.5, -1.0]])
    assert expand(counts, each, SUM).tolist() == [3.5, 1.0]
    assert expand(counts, each, MAX).tolist() == [1.0, 2.0]
    assert expand(counts, each, MIN).tolist() == [0.5, -1.0]
    assert expand(counts, each[:, 0] > 0.7, ANY).item() is True


FOLLOWING: dict[str, Callable[..., Any]] = {
    "sum": lambda x, y: (x.argmax(1) == y).sum(),
    "mean": lambda x, y: (x.argmax(1) == y).double().mean(),
    "table": lambda x, y: torch.nn.functional.one_hot(x.argmax(1), A).sum(0),
    "largest": lambda x, y: (x.argmax(1) - y).max(),
    "smallest": lambda x, y: (x.argmax(1) * y).min(),
    "any": lambda x, y: (x.argmax(1) > y + 2).any(),
    "selected": lambda x, y: x.argmax(1)[y == 1].double().mean(),
    "weighted": lambda x, y: (torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)[y] * x.argmax(1)).sum(),
    "variance": lambda x, y: (x.argmax(1) - y).double().var(),
    "log": lambda x, y: (y.double() + 1).log().sum(),
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_it_follows_from_the_counts(name: str) -> None:
    """It is not computed, and is what its own fold gives, on other batches as well."""
    fn = FOLLOWING[name]
    found = together(pairs, fn)
    assert len(found.leaves) == 2, "the counts, and their guard"
    assert not found.lengths
    fold, own = found.fold.compile(), plan(fn)
    for seed, n in ((1, 1), (2, 7), (3, 500)):
        batch = scores(n, seed)
        kept, lengths = fold(batch, found.captured)
        values, selected = found.spread(kept, lengths)[1]
        expected, counted = found.parts[1].plan.fold.compile()(batch, own.captured)
        assert selected == counted
        for value, other, leaf in zip(values, expected, found.parts[1].plan.leaves, strict=True):
            torch.testing.assert_close(value, torch.as_tensor(other).to(leaf.dtype), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: x[:, 0].double().sum(),
        lambda x, y: (x.argmin(1) == y).sum(),
        lambda x, y: (x.amax(1).double() * y).sum(),
    ],
    ids=["scores", "another guess", "scores by label"],
)
def test_it_does_not(fn: Callable[..., Any]) -> None:
    assert len(together(pairs, fn).leaves) == 2
    assert all(source.each is None for part in together(pairs, fn).parts for source in part.leaves)


def test_the_guard_sees_what_the_counts_cannot() -> None:
    """A label that wraps around to a place among the counts."""
    found = together(pairs, FOLLOWING["sum"])
    labels = torch.tensor([-(2**62), 1])
    assert (labels * A)[0] == 0
    with pytest.raises(RuntimeError, match="non-negative"):
        found.fold.compile()((torch.randn(2, A), labels), found.captured)


# ---------------------------------------------------------------------- what is there once


def test_equal_values_have_one_name() -> None:
    found = together(
        lambda x, y: (x.argmax(1) == y).sum(),
        lambda x, y: (y == x.argmax(-1)).float().mean(),
        lambda x, y: (x[:, 0] * x[:, 1]).sum(),
        lambda x, y: (x[:, 0] * x[:, 1]).mean(),
    )
    assert [source.place for part in found.parts for source in part.leaves] == [0, 0, 1, 1]
    assert found.fold.text.count("argmax") == 1


def test_a_tensor_from_outside_is_one() -> None:
    weight = torch.rand(A)
    found = together(lambda x, y: (x @ weight).sum(), lambda x, y: (x @ weight).square().sum())
    assert list(found.captured.values()) == [weight]


def test_a_fold_that_gives_something_else_is_not_used() -> None:
    one, other = plan(lambda x, y: x.sum()), plan(lambda x, y: y.sum())
    assert fold_together([one, other], scores()) is not None
    one.__dict__["fold"] = other.fold  # its own fold says something else
    assert fold_together([one, other], scores()) is None
