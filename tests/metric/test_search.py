"""Random programs and every operator, on samples whose first rows mislead: exact, rows kept or refused; never wrong.

Some hundreds here, in a process of their own so that a crash is found; `make test-long` tries 20,000 and all cells.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from search.grid import cells
from search.judge import judge
from search.work import Tally, Worker, reports, search, shown

LONG = int(os.environ.get("BATCHPROOF_PROGRAMS", "20000"))
#: A prime, so that every dtype and every kind of first samples is met.
STRIDE = 503


def assert_nothing_found(tally: Tally) -> None:
    print(tally.table())
    assert not tally.found, "\n".join(map(shown, tally.found))


def test_random_programs() -> None:
    tally = search(range(1_000_000, 1_000_100), 1, ["--shrink", "5"])
    assert tally.programs == 100
    assert tally.ends["constant"] > 150
    assert_nothing_found(tally)


def test_operators_by_dtype_and_first_samples() -> None:
    tally = search(range(0, len(cells()), STRIDE), 1, ["--grid"])
    assert tally.ends["constant"] > 150
    assert_nothing_found(tally)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(0, LONG, 100))
def test_many_random_programs(seed: int) -> None:
    assert_nothing_found(search(range(seed, seed + 100), 1, ["--shrink", "20"]))


@pytest.mark.long
@pytest.mark.parametrize("first", range(1, STRIDE))
def test_the_other_cells_of_the_grid(first: int) -> None:
    assert_nothing_found(search(range(first, len(cells()), STRIDE), 1, ["--grid"]))


# ------------------------------------------------------------------ what a find is


def mean_square(x: Tensor) -> Tensor:
    return x.square().mean()


def narrow(x: Tensor) -> Tensor:
    return x.float().square().mean()


def cancelled(x: Tensor) -> Tensor:
    return (x + 1e3).mean() - 1e3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("function", "rounding", "wrong"),
    [(mean_square, {torch.float64: 1e-9, torch.float32: 1e-5}, 1e-4), (narrow, 1e-5, 1e-4), (cancelled, 1e-9, 20)],
)
def test_a_find_is_a_wrong_number_and_not_rounding(
    function: Callable[[Tensor], Tensor], rounding: float | dict[torch.dtype, float], wrong: float, dtype: torch.dtype
) -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=dtype)
    right = function(x)
    off = rounding[dtype] if isinstance(rounding, dict) else rounding
    said = [judge(function, ((x,), {}), right * (1 + gap), right, dtype) for gap in (0, off, -off, wrong, -wrong)]
    assert said[0] == "same"
    assert {said[1], said[2]} <= {"same", "rounding"}
    assert [text.partition(":")[0] for text in said[3:]] == ["another number"] * 2


def test_whole_numbers_have_no_room() -> None:
    x = torch.arange(100)
    assert judge(lambda x: x.sum(), ((x,), {}), x.sum() + 1, x.sum(), torch.float64).startswith("another number")


def test_another_type_is_a_find() -> None:
    x = torch.randn(10)
    assert judge(mean_square, ((x,), {}), mean_square(x).double(), mean_square(x), torch.float32).startswith("another")


def test_a_crash_is_a_find_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = Worker.__init__

    def planted(self: Worker, seeds: list[int], options: list[str]) -> None:
        begun(self, seeds, options)
        if seeds[0] == 3:  # as if the program had done it
            self.process.send_signal(11)

    monkeypatch.setattr(Worker, "__init__", planted)
    ends = {report["seed"]: [end["kind"] for end in report["ends"]] for report in reports([3, 4], ["--shrink", "1"])}
    assert ends[3] == ["crash"]
    assert "crash" not in ends[4]
