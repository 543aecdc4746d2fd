"""`score` on a folder of parquet, beside DuckDB's SQL, polars, pandas and a loop over torchmetrics, in one run.

DuckDB, polars and pandas are no dependencies: those that are not installed are left out, and said so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

import batchproof
from bench.section import Aim, Section

GROUPS = 1000
FILES = 10
ROUNDS = 3


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


_SQL = """SELECT user, sqrt(avg(error * error)), 1 - sum(error * error) / (count(*) * var_pop(real))
          FROM (SELECT user, real::DOUBLE AS real, pred::DOUBLE - real::DOUBLE AS error FROM '{}/*.parquet')
          GROUP BY user"""


def _duckdb(folder: Path) -> dict[int, tuple[float, ...]]:
    import duckdb

    return {row[0]: row[1:] for row in duckdb.connect().execute(_SQL.format(folder)).fetchall()}


def _polars(folder: Path) -> dict[int, tuple[float, ...]]:
    import polars as pl

    real = pl.col("real").cast(pl.Float64)
    error = pl.col("pred").cast(pl.Float64) - real
    squares = (error * error).sum()
    grouped = (
        pl.scan_parquet(folder / "*.parquet")
        .group_by("user")
        .agg((squares / pl.len()).sqrt().alias("rmse"), (1 - squares / (pl.len() * real.var(ddof=0))).alias("r2"))
    )
    return {row[0]: row[1:] for row in grouped.collect().rows()}


def _pandas(folder: Path) -> dict[int, tuple[float, ...]]:
    """The function itself on each group, as most people have it."""
    import pandas as pd

    def both(group: Any) -> Any:
        pred, real = torch.from_numpy(group["pred"].to_numpy()), torch.from_numpy(group["real"].to_numpy())
        return pd.Series({"rmse": float(rmse(pred, real)), "r2": float(r2(pred, real))})

    found = pd.read_parquet(folder).groupby("user")[["pred", "real"]].apply(both)
    return {key: tuple(row) for key, row in zip(found.index, found.to_numpy(), strict=True)}


def _torchmetrics(folder: Path) -> dict[int, tuple[float, ...]]:
    """A metric for each group, updated with its rows of each batch."""
    import pyarrow.dataset as ds
    import torchmetrics as tm

    held: dict[int, tuple[Any, Any]] = {}
    for batch in ds.dataset(folder).to_batches(batch_size=131_072):
        columns = [torch.from_numpy(batch[name].to_numpy().copy()) for name in ("pred", "real", "user")]
        order = columns[2].argsort(stable=True)
        users, counts = columns[2].unique(return_counts=True)
        parts = [column[order].split(counts.tolist()) for column in columns[:2]]
        for user, pred, real in zip(users.tolist(), *parts, strict=True):
            own = held.setdefault(user, (tm.MeanSquaredError(squared=False), tm.R2Score()))
            for metric in own:
                metric.update(pred, real)
    return {user: tuple(float(metric.compute()) for metric in own) for user, own in held.items()}


def _ours(folder: Path) -> dict[int, tuple[float, ...]]:
    found = batchproof.score(folder, [rmse, r2], by="user")
    return {group.key[0]: group.values for group in found.groups}


#: By name: what runs, the package that it needs, and the largest number of rows that it is asked for.
RIVALS: dict[str, tuple[Callable[[Path], dict[int, tuple[float, ...]]], str, int]] = {
    "DuckDB": (_duckdb, "duckdb", 1 << 62),
    "polars": (_polars, "polars", 1 << 62),
    "pandas apply": (_pandas, "pandas", 20_000_000),
    "torchmetrics loop": (_torchmetrics, "torchmetrics", 4_000_000),
}


def run(quick: bool) -> Section:
    section = Section(
        "scoring",
        f"score: RMSE and R² by {GROUPS:,} groups of a folder of parquet; seconds, and theirs divided by ours",
        ["rows", "ours, s", *(f"{name} / ours" for name in RIVALS), "largest difference"],
    )
    missing = [name for name, (_, package, _) in RIVALS.items() if find_spec(package) is None]
    if missing:
        section.notes.append(f"not installed, and left out: {', '.join(missing)}")
    reached: dict[str, float] = {}
    for rows in [1_000_000] if quick else [1_000_000, 10_000_000, 100_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder), rows)
            ratios, seconds, gap = _side_by_side(Path(folder), rows, missing)
        section.rows.append([rows, seconds, *(ratios.get(name) for name in RIVALS), gap])
        reached |= {name: 1 / ratio if name == "DuckDB" else ratio for name, ratio in ratios.items()}
    if "DuckDB" in reached:
        section.aims.append(Aim("ours divided by DuckDB's", 3.0, reached["DuckDB"]))
    if "pandas apply" in reached:
        section.aims.append(Aim("ours divided by pandas apply's", 1 / 20, 1 / reached["pandas apply"]))
    return section


def _write(folder: Path, rows: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(FILES):
        count = rows // FILES
        real = generator.standard_normal(count, dtype=np.float32)
        pred = real + generator.standard_normal(count, dtype=np.float32)
        user = generator.integers(0, GROUPS, count, dtype=np.int32)
        table = pa.table({"pred": pred, "real": real, "user": user})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=1 << 20)


def _side_by_side(folder: Path, rows: int, missing: list[str]) -> tuple[dict[str, float], float, float]:
    """For each rival its time by ours, the best of a few rounds; our seconds; the largest relative difference."""
    sides = {name: side for name, (side, _, most) in RIVALS.items() if name not in missing and rows <= most}
    best = dict.fromkeys(["ours", *sides], float("inf"))
    gap = 0.0
    threads = torch.get_num_threads()
    for _ in range(ROUNDS):
        values = {}
        for name, side in {"ours": _ours, **sides}.items():
            start = time.perf_counter()
            values[name] = side(folder)
            best[name] = min(best[name], time.perf_counter() - start)
        for name in sides:
            own, other = (np.array([values[who][user] for user in sorted(values["ours"])]) for who in ("ours", name))
            if name in ("DuckDB", "polars"):  # the others sum in float32
                gap = max(gap, float(np.abs(own / other - 1).max()))
    torch.set_num_threads(threads)
    return {name: best[name] / best["ours"] for name in sides}, best["ours"], gap
