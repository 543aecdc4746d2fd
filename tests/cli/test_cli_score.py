"""The command ``score``: what it prints, what it saves, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import commands

FIT = """
import torch

def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))

def bias(pred, real):
    return (pred - real).mean()

def median(pred, real):
    return (pred - real).abs().median()

def words(pred):
    return "many"

def random(pred):
    return torch.rand(()) + pred.mean()

LIMIT = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    with commands.inside(tmp_path, monkeypatch, {"fit.py": FIT}, 80) as path:
        generator = np.random.default_rng(0)
        for number, rows in enumerate([300, 20, 700]):
            real = generator.normal(0, 1 + number, rows)
            table = pa.table(
                {
                    "pred": real + generator.normal(0, 0.1 + number, rows),
                    "real": real,
                    "user": [f"u{i % 30:02d}" for i in range(rows)],
                }
            )
            path.joinpath("data").mkdir(exist_ok=True)
            pq.write_table(table, path / "data" / f"{number}.parquet")
        yield path


def test_one_number_and_what_averaging_the_files_would_have_said(folder, capsys):
    status, out, _ = commands.command(capsys, "score", "data", "--fn", "fit.py:rmse")
    assert status == 0
    assert out.startswith("✓ rmse is 1.8")
    assert " on 1,020 rows" in out
    assert "Averaging the 3 files would have said 1.135: 37.3% too low." in out


@pytest.mark.parametrize("width", ["80", "120"])
def test_groups_are_the_largest_and_the_smallest(folder, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    functions = ("--fn", "fit.py:rmse", "--fn", "fit.py:bias")
    status, out, _ = commands.command(capsys, "score", "data", *functions, "--by", "user")
    assert status == 0
    assert "By user: 30 groups, those with the largest rmse" in out
    assert "and the smallest rmse" in out
    assert max(map(len, out.splitlines())) <= int(width)


def test_every_group_is_in_the_files_and_in_the_data(folder, capsys):
    files = ("--csv", "all.csv", "--parquet", "all.parquet")
    status, out, err = commands.command(
        capsys, "score", "data", "--fn", "fit.py:rmse", "--by", "user", *files, "--json"
    )
    assert status == 0
    assert "wrote all.csv" in err
    found = json.loads(out)
    assert found["schema"] == "batchproof/score/1"
    assert len(found["groups"]) == 30
    for saved in (pq.read_table("all.parquet"), pyarrow.csv.read_csv("all.csv")):
        assert saved["user"].to_pylist() == [group["key"][0] for group in found["groups"]]
        assert saved["rmse"].to_pylist() == pytest.approx([group["values"][0] for group in found["groups"]])


@pytest.mark.parametrize("form", ["html", "png"])
def test_pages_and_pictures(folder, capsys, form):
    args = (
        "score",
        "data",
        "--fn",
        "fit.py:rmse",
        "--fn",
        "fit.py:median",
        "--by",
        "user",
        f"--{form}",
        f"page.{form}",
    )
    assert commands.command(capsys, *args)[0] == 0
    assert Path(f"page.{form}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["data"], "Missing option '--fn'"),
        (["data", "--fn", "fit.py:rsme"], "did you mean rmse?"),
        (["data", "--fn", "fit.py:LIMIT"], "is no function of columns"),
        (["data", "--fn", "torchmetrics:MeanSquaredError"], "is no function of columns"),
        (["data", "--fn", "fit.py:rmse", "--by", "usr"], "did you mean user?"),
        (["data", "--fn", "fit.py:rmse", "--column", "pred=forecast"], "no column forecast"),
        (["data", "--fn", "fit.py:rmse", "--column", "pred=user"], "holds text"),
        (["data", "--fn", "fit.py:words"], "returns str: there is no number in it"),
        (["data", "--fn", "fit.py:random"], "random"),
        (["nowhere", "--fn", "fit.py:rmse"], "there is no"),
        (["data", "--fn", "fit.py:rmse", "--csv", "nowhere/all.csv"], "there is no directory nowhere"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, args, said):
    status, out, err = commands.command(capsys, "score", *args)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err


def test_nulls_are_named_or_left_out(folder, capsys):
    table = pa.table({"pred": pa.array([1.0, None, 3.0]), "real": [1.0, 2.0, 5.0]})
    pq.write_table(table, "nulls.parquet")
    status, _, err = commands.command(capsys, "score", "nulls.parquet", "--fn", "fit.py:rmse")
    assert status == 2
    assert "null" in err
    assert "--nulls drop" in err
    status, out, _ = commands.command(capsys, "score", "nulls.parquet", "--fn", "fit.py:rmse", "--nulls", "drop")
    assert status == 0
    assert "rmse is 1.4 ± 1.0 on 2 rows" in out
    assert "1 row with a null left out" in out


def test_rows_that_hold_nan_are_counted_and_no_number_is_made_up(folder, capsys):
    pq.write_table(pa.table({"pred": [1.0, float("nan"), 3.0], "real": [1.0, 2.0, 5.0]}), "nan.parquet")
    status, out, _ = commands.command(capsys, "score", "nan.parquet", "--fn", "fit.py:rmse")
    assert status == 2
    assert out.startswith("? rmse is nan")
    assert "1 row of 3 hold" in out
