"""score: the value on all rows and on each group is that of the function itself on those rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor

import batchproof
from batchproof.errors import BatchproofError
from batchproof.scoring import blocks, tables, tally, values


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


def median(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().median()


def f1(pred: Tensor, real: Tensor) -> dict[str, Tensor]:
    hit, said, true = ((pred > 0) & (real > 0)).sum(), (pred > 0).sum(), (real > 0).sum()
    return {"f1": 2 * hit / (said + true), "precision": hit / said}


def chosen(pred: Tensor, real: Tensor) -> Tensor:
    return pred[real > 0].mean()


def confusion(pred: Tensor, real: Tensor) -> Tensor:
    cells = torch.bincount(30 * (pred.round().long() % 30) + real.round().long() % 30, minlength=900).double()
    return (cells.square().sum() / cells.sum()).sqrt()


def scale(pred: Tensor, real: Tensor) -> float:
    return math.sqrt((pred - real).square().sum().item() / len(pred))  # a number of Python's


FUNCTIONS = [rmse, r2, median, f1, chosen, confusion, scale]


def table(n: int = 5000, groups: int = 9, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    real = generator.normal(3, 2, n)
    return pa.table(
        {
            "pred": real + generator.normal(0, 1, n),
            "real": real,
            "user": generator.integers(0, groups, n).astype("int32"),
            "land": np.array(["no", "se", "dk"])[generator.integers(0, 3, n)],
        }
    )


def numbers(value: Any) -> list[float]:
    leaves = value.values() if isinstance(value, dict) else [value]
    return [float(leaf) for leaf in leaves]


def columns(data: pa.Table, chosen_rows: Any = slice(None)) -> list[Tensor]:
    return [torch.tensor(data[name].to_numpy()[chosen_rows]) for name in ("pred", "real")]


def write(data: pa.Table, folder: Any, sizes: list[int], row_group: int) -> str:
    start = 0
    for number, size in enumerate(sizes):
        pq.write_table(data.slice(start, size), folder / f"part-{number}.parquet", row_group_size=row_group)
        start += size
    return str(folder)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_the_whole_and_every_group_have_the_functions_own_value(fn: Callable[..., Any], tmp_path):
    data = table()
    found = batchproof.score(write(data, tmp_path, [100, 2900, 0, 2000], 700), fn, by=["user", "land"])
    assert [number.value for number in found.numbers] == pytest.approx(numbers(fn(*columns(data))), rel=1e-12)
    users, lands = data["user"].to_numpy(), data["land"].to_numpy(zero_copy_only=False)
    assert [group.key for group in found.groups] == sorted(set(zip(users.tolist(), lands.tolist(), strict=True)))
    for group in found.groups:
        own = (users == group.key[0]) & (lands == group.key[1])
        assert group.rows == own.sum()
        assert group.values == pytest.approx(numbers(fn(*columns(data, own))), rel=1e-12)


def test_it_is_scikit_learns_number(tmp_path):
    data = table()
    found = batchproof.score(write(data, tmp_path, [5000], 999), r2, by="land")
    assert found.value == pytest.approx(sklearn_metrics.r2_score(data["real"].to_numpy(), data["pred"].to_numpy()))
    for group in found.groups:
        own = data.filter(pa.compute.equal(data["land"], group.key[0]))
        expected = sklearn_metrics.r2_score(own["real"].to_numpy(), own["pred"].to_numpy())
        assert group.values[0] == pytest.approx(expected, rel=1e-12)


def test_a_function_of_scikit_learns_keeps_its_samples():
    data = {"y_score": torch.randn(500), "y_true": torch.arange(500) % 2, "user": torch.arange(500) % 3}
    found = batchproof.score(data, sklearn_metrics.roc_auc_score, by="user")
    assert found.value == pytest.approx(sklearn_metrics.roc_auc_score(data["y_true"], data["y_score"]))
    assert found.numbers[0].kept
    for group in found.groups:
        own = data["user"] == group.key[0]
        expected = sklearn_metrics.roc_auc_score(data["y_true"][own], data["y_score"][own])
        assert group.values[0] == pytest.approx(expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cut", [[5000], [1, 1, 4998], [2500, 2500], [0, 5000, 0]])
def test_the_cut_into_files_and_row_groups_changes_nothing(cut, threads, tmp_path):
    data = table()
    whole = batchproof.score(data, [rmse, r2], by="user")
    found = batchproof.score(write(data, tmp_path, cut, 333), [rmse, r2], by="user", threads=threads)
    assert [one.value for one in found.numbers] == pytest.approx([one.value for one in whole.numbers], rel=1e-13)
    for mine, theirs in zip(found.groups, whole.groups, strict=True):
        assert (mine.key, mine.rows) == (theirs.key, theirs.rows)
        assert mine.values == pytest.approx(theirs.values, rel=1e-12)


def test_functions_share_a_pass_and_keep_their_names():
    data = table()
    found = batchproof.score(data, {"error": rmse, "fit": r2})
    assert [one.name for one in found.numbers] == ["error", "fit"]
    twice = batchproof.score(data, [lambda pred: pred.mean(), lambda real: real.mean()])
    assert [one.name for one in twice.numbers] == ["lambda", "lambda_2"]
    assert [one.name for one in batchproof.score(data, f1).numbers] == ["f1['f1']", "f1['precision']"]


# ---------------------------------------------------------------------- error bars


@pytest.mark.parametrize(("fn", "expected"), [(rmse, 1 / math.sqrt(2)), (lambda pred, real: (pred - real).mean(), 1.0)])
def test_error_bars_are_those_of_theory(fn, expected):
    data = table(20_000, 4)
    found = batchproof.score(data, fn, by="user")
    assert found.standard_error == pytest.approx(expected / math.sqrt(found.rows), rel=0.5)
    for group in found.groups:
        assert group.standard_errors[0] == pytest.approx(expected / math.sqrt(group.rows), rel=0.6)


@pytest.mark.parametrize("fn", [rmse, r2, f1])
def test_error_bars_of_groups_found_at_once_are_those_found_alone(fn, monkeypatch):
    data = table(4000, 5)
    at_once = batchproof.score(data, fn, by="user")
    monkeypatch.setattr(values, "_errors_at_once", lambda *_: torch.nan)
    alone = batchproof.score(data, fn, by="user")
    for one, other in zip(at_once.groups, alone.groups, strict=True):
        assert one.standard_errors == pytest.approx(other.standard_errors, rel=0.05)


def test_many_groups_have_values_without_error_bars(monkeypatch):
    data = table(3000, 400)
    with_bars = batchproof.score(data, rmse, by="user")
    monkeypatch.setattr(tally, "MOST_CELLED_GROUPS", 100)
    without = batchproof.score(data, rmse, by="user")
    assert all(math.isnan(group.standard_errors[0]) for group in without.groups)
    assert not all(math.isnan(group.standard_errors[0]) for group in with_bars.groups)
    for one, other in zip(with_bars.groups, without.groups, strict=True):
        assert (one.key, one.rows) == (other.key, other.rows)
        assert one.values == pytest.approx(other.values, rel=1e-12)


# ---------------------------------------------------------------------- what averages would have said


def test_what_averaging_the_files_would_have_said(tmp_path):
    data = table()
    sizes = [500, 4000, 500]
    found = batchproof.score(write(data, tmp_path, sizes, 300), rmse)
    edges = [0, *np.cumsum(sizes).tolist()]
    of_files = [float(rmse(*columns(data, slice(*edges[i : i + 2])))) for i in range(3)]
    averaged = found.numbers[0].averaged
    assert averaged is not None
    assert (averaged.what, averaged.parts) == ("files", 3)
    assert averaged.mean == pytest.approx(sum(of_files) / 3)
    assert averaged.off == pytest.approx(averaged.mean / found.value - 1)


def test_of_one_file_its_row_groups_and_of_one_piece_equal_parts(tmp_path, monkeypatch):
    data = table()
    of_rows = batchproof.score(write(data, tmp_path, [5000], 1000), rmse).numbers[0].averaged
    assert of_rows is not None
    assert (of_rows.what, of_rows.parts) == ("row groups", 5)
    of_table = batchproof.score({"pred": np.arange(500.0), "real": np.ones(500)}, rmse).numbers[0].averaged
    assert of_table is not None
    assert of_table.what == "equal parts"
    for module in (blocks, tables):
        monkeypatch.setattr(module, "PART_ROWS", 2000)
    of_parts = batchproof.score(data, rmse).numbers[0].averaged
    assert of_parts is not None
    assert (of_parts.what, of_parts.parts) == ("parts", 3)


# ---------------------------------------------------------------------- over samples


def test_over_samples_is_the_mean_of_single_values():
    generator = torch.Generator().manual_seed(0)
    image, truth = (torch.rand(300, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))

    def psnr(image: Tensor, truth: Tensor) -> Tensor:
        return -10 * torch.log10((image - truth).square().mean())

    group = torch.arange(300) % 2
    found = batchproof.score({"image": image, "truth": truth, "group": group}, psnr, over="samples", by="group")
    alone = torch.stack([psnr(image[i : i + 1], truth[i : i + 1]) for i in range(300)])
    assert found.value == pytest.approx(float(alone.mean()), rel=1e-12)
    assert [one.values[0] for one in found.groups] == pytest.approx([float(alone[group == g].mean()) for g in (0, 1)])
    assert found.standard_error == pytest.approx(float(alone.std()) / math.sqrt(300), rel=0.6)


def test_over_samples_of_a_function_that_branches_in_python():
    def clipped(x: Tensor) -> float:
        value = x.mean().item()
        return value if value > 0.5 else 0.0

    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    found = batchproof.score({"x": x}, clipped, over="samples")
    assert found.value == pytest.approx(float(torch.where(x > 0.5, x, 0).mean()))


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "keys",
    [
        pa.array(["a", None, "b", "a", None, "b"]),
        pa.array([1.5, float("nan"), 1.5, float("nan"), None, 2.0]),
        pa.array([True, False, None, True, True, False]),
        pa.array([2**40, 1, 2**40, 1, -5, None]),
        pa.array(["x", "y", "x", "y", "x", "z"]).dictionary_encode(),
        pa.array([10, 20, 10, 20, 30, 30], pa.timestamp("s")),
    ],
)
def test_groups_of_any_type_nulls_and_nan_among_them(keys):
    x = torch.arange(6.0, dtype=torch.float64)
    found = batchproof.score(pa.table({"x": x.numpy(), "key": keys}), lambda x: x.sum(), by="key")
    shown = [str(value) for value in keys.to_pylist()]
    expected = {key: sum(float(x[i]) for i in range(6) if shown[i] == key) for key in shown}
    assert {str(group.key[0]): group.values[0] for group in found.groups} == pytest.approx(expected)
    assert sum(group.rows for group in found.groups) == 6


def test_groups_as_a_table():
    found = batchproof.score(table(), [rmse, r2], by="user").to_arrow()
    assert found.column_names == ["user", "rows", "rmse", "rmse standard error", "r2", "r2 standard error"]
    assert found.num_rows == 9
    whole = batchproof.score(table(), rmse).to_arrow()
    assert whole.num_rows == 1


# ---------------------------------------------------------------------- what has no value


def test_a_function_that_raises_on_some_groups_is_told_of():
    def needs_three(x: Tensor) -> Tensor:
        if len(x) < 3:
            raise ValueError("needs three samples")
        return x.std()

    data = {"x": torch.arange(10.0), "key": torch.tensor([0, 0, 1, 1, 1, 1, 1, 2, 2, 2])}
    found = batchproof.score(data, needs_three, by="key")
    assert math.isnan(found.groups[0].values[0])
    assert found.groups[1].values[0] == pytest.approx(float(data["x"][2:7].std()))
    assert found.raised == ("needs_three has no value on 1 of 3 groups: ValueError: needs three samples",)
    assert "needs three samples" in str(found)


def test_a_branch_on_the_size_of_a_group_is_the_groups_own():
    def careful(x: Tensor) -> Tensor:
        return x.mean() if len(x) > 3 else x.amax()

    data = {"x": torch.arange(400.0, dtype=torch.float64), "key": torch.arange(400) // 3 % 100}
    data["key"][-4:] = 200
    found = batchproof.score(data, careful, by="key")
    for group in found.groups:
        own = data["x"][data["key"] == group.key[0]]
        assert group.values[0] == pytest.approx(float(careful(own))), group


def test_groups_of_one_row_where_others_have_many():
    """R² of one sample divides by nothing: such groups are finished alone, and all others at once."""
    data = table(900, 2)
    users = torch.tensor(data["user"].to_numpy()).long()
    users[:40] = torch.arange(100, 140)
    found = batchproof.score({"pred": columns(data)[0], "real": columns(data)[1], "user": users}, r2, by="user")
    for group in found.groups:
        own = users == group.key[0]
        expected = float(r2(*columns(data, own.numpy())))
        assert group.values[0] == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_a_function_that_does_not_look_at_its_samples():
    assert batchproof.score({"x": torch.arange(9.0)}, lambda x: torch.tensor(5.0)).value == 5.0


def test_no_rows_are_refused():
    with pytest.raises(BatchproofError, match="no rows"):
        batchproof.score({"x": torch.empty(0)}, lambda x: x.mean())


def test_samples_that_do_not_fit_into_memory_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(import_module("batchproof.scoring.score"), "_free_memory", lambda: 10_000)
    with pytest.raises(BatchproofError, match=r"median keeps its samples .*: 5,000 rows take 80"):
        batchproof.score(table(), median)
    assert batchproof.score(table(), rmse).rows == 5000


def test_an_interrupt_gives_what_was_scored_so_far(tmp_path):
    data, seen = table(), []

    def progress(text: str, done: int, total: int | None) -> None:
        seen.append(done)
        if done >= 1000:
            raise KeyboardInterrupt

    found = batchproof.score(write(data, tmp_path, [5000], 500), rmse, progress=progress, threads=1)
    assert found.interrupted
    assert found.rows == 1000
    assert found.value == pytest.approx(float(rmse(*columns(data, slice(0, 1000)))))
    assert "so far" in str(found)


@pytest.mark.parametrize("bad", [{"over": "epochs"}, {"nulls": "keep"}, {"fn": []}, {"fn": [3]}])
def test_options_that_are_none(bad):
    with pytest.raises(BatchproofError):
        batchproof.score(table(), **{"fn": rmse, **bad})
