"""compare over ranks: what each way to combine the ranks' numbers adds, beside sums that are made here by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.commands import inside
from tests.comparisons import shared_slots

from batchproof.errors import BatchproofError
from batchproof.scripts.compare import scheduler
from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import ComparedNumber, Comparison
from batchproof.scripts.compare.split import DifferenceCause
from batchproof.scripts.run.result import RankValues

EXAMPLE = Path(__file__).parents[3] / "examples" / "train_on_ranks.py"
#: Errors of a model that says nothing but 0 are the targets themselves.
DATA = """
import torch
torch.manual_seed(0)
y = torch.randn(101, 1) * torch.linspace(0.1, 3, 101)[:, None]
x = torch.ones(101, 1)
edges = [0, 80, 101]
"""
SCORED = (
    DATA
    + """
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
mine = slice(edges[rank], edges[rank + 1]) if world == 2 else slice(0, 101)
model = torch.nn.Linear(1, 1)
torch.nn.init.zeros_(model.weight)
torch.nn.init.zeros_(model.bias)
loader = DataLoader(TensorDataset(x[mine], y[mine]), batch_size=7)
padded = DataLoader(TensorDataset(x, y), batch_size=7, sampler=DistributedSampler(TensorDataset(x, y), shuffle=False))

def mse(pred, real):
    return ((pred - real) ** 2).mean()

@torch.no_grad()
def score(loader):
    total, count = 0.0, 0
    for a, b in loader:
        total += mse(model(a), b).item() * len(a)
        count += len(a)
    return total / count

def over_ranks(value):
    mean = torch.tensor(value)
    dist.all_reduce(mean)
    return mean.item() / world

rank_means = over_ranks(score(loader))
twice = over_ranks(score(padded))
if rank == 0:
    first_alone = score(loader)
    print(rank_means, twice, first_alone)

summed = torch.zeros(())
for a, b in loader:
    with torch.no_grad():
        summed += mse(model(a), b) * len(a)
dist.all_reduce(summed)
whole = summed.item() / 101
if rank == 0:
    print(whole)
dist.destroy_process_group()
"""
)
FAILING = "import os\nif os.environ['RANK'] == '1':\n    raise ValueError('the second has no data')\n" + SCORED


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(scheduler, "slots", shared_slots)
    with inside(tmp_path, monkeypatch, {}, 100) as path:
        yield path


def compared(script: str, *ranks: int, **changes: Any) -> Comparison:
    Path("train.py").write_text(script)
    return compare("train.py", (20,), **{"ranks": ranks or (1, 2), **changes})


def number(found: Comparison, name: str) -> ComparedNumber:
    [one] = [number for number in found.numbers if number.name == name]
    return one


def amounts(number: ComparedNumber) -> dict[DifferenceCause, float]:
    """The parts on the most ranks that are more than float32's rounding."""
    return {part.cause: part.mean.value for part in number.rows[-1].parts if abs(part.mean.value) > 3e-6}


def squares() -> torch.Tensor:
    names: dict[str, Any] = {}
    exec(DATA, names)
    square: torch.Tensor = names["y"][:, 0].double() ** 2
    return square


def test_each_way_to_combine_is_its_own_part() -> None:
    found = compared(SCORED)
    square = squares()
    exact = square.mean().item()
    of_ranks = [square[:80].mean().item(), square[80:].mean().item()]
    with_copy = (square.sum() + square[0]).item() / 102

    means = number(found, "rank_means")
    assert means.rows[1].reported.value == pytest.approx(sum(of_ranks) / 2, rel=1e-6)
    assert amounts(means) == {DifferenceCause.RANK_MEANS: pytest.approx(sum(of_ranks) / 2 - exact, rel=1e-5)}
    twice = number(found, "twice")
    assert twice.rows[1].reported.value == pytest.approx(with_copy, rel=1e-6)
    assert amounts(twice) == {DifferenceCause.COPIES: pytest.approx(with_copy - exact, rel=1e-4)}
    whole = number(found, "whole")
    assert whole.rows[1].reported.value == pytest.approx(exact, rel=1e-6)
    assert amounts(whole) == {}
    for each in (means, twice, whole):
        assert each.rows[1].exact is not None
        assert each.rows[1].exact.value == pytest.approx(exact, rel=1e-6)

    assert found.exit_status == 1
    assert {"mean of rank means", "samples drawn twice"} <= {advice.title for advice in found.advice}
    assert found.headline.endswith(
        "from 1 rank to 2 ranks, none of it real: the means of the ranks are averaged, whatever their samples"
    )
    assert [(row.size, found.by) for row in means.rows] == [(1, "ranks"), (2, "ranks")]


def test_the_first_ranks_own_number_and_a_rate_that_follows_the_ranks() -> None:
    found = compare(str(EXAMPLE), (32,), ("--batch-size", "{batch_size}"), ranks=(1, 2))
    train, test = found.numbers
    assert not found.failures
    for each in (train, test):
        first, row = each.rows
        assert row.difference is not None
        parts = {part.cause: part.mean.value for part in row.parts}
        assert math.fsum(parts.values()) == pytest.approx(row.difference.value, abs=1e-9)
        # the same batches in the same order, at the same rate: nothing is left
        assert abs(parts[DifferenceCause.REST]) < 0.002
        assert row.controlled is not None
        assert first.exact is not None
        assert row.controlled.value == pytest.approx(first.exact.value, rel=1e-3)
        assert (first.steps, row.steps) == (16, 16)
    assert train.rows[1].samples == 256  # the first rank's, which it reports
    assert set(amounts(train)) >= {DifferenceCause.ONE_RANK, DifferenceCause.RATE}
    assert DifferenceCause.COPIES in amounts(test)
    assert test.rows[1].learning_rate == 0.02


def test_a_rank_that_fails_is_told_and_ends_the_others() -> None:
    found = compared(FAILING)
    [failure] = found.failures
    assert (failure.size, failure.run) == (2, "2 ranks, batch size 10")
    assert failure.error == "ValueError: the second has no data (train.py:3)"


@pytest.mark.parametrize(
    ("sizes", "ranks", "says"),
    [
        ((20,), (2,), "give at least two, as in --ranks 1,2"),
        ((20, 40), (1, 2), "--ranks takes one batch size"),
        ((20,), (1, 3), "cannot be shared out evenly among 3 ranks: give a multiple of it, as in --batch-size 18"),
        ((20,), (0, 2), "--ranks"),
    ],
)
def test_what_cannot_be_compared_is_refused(sizes: tuple[int, ...], ranks: tuple[int, ...], says: str) -> None:
    Path("train.py").write_text(SCORED)
    with pytest.raises(BatchproofError, match=says):
        compare("train.py", sizes, ranks=ranks)


def test_a_number_is_told_by_what_it_is_made_of() -> None:
    known = {"own": 1.0, "mean": 2.0, "averaged": 3.0, "weighted": 3.0, "with_copies": 4.0, "exact": 5.0}
    kinds = {value: RankValues(2, value, **known).kind for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)}
    assert kinds == {1.0: "own", 2.0: "mean", 3.0: "all", 4.0: "with copies", 5.0: "exact", 6.0: ""}
    assert RankValues(2, 1.0, **known).parts == {"one rank": -1.0, "mean of ranks": -1.0, "copies": -1.0}
    assert RankValues(2, 6.0, **known).parts == {}
