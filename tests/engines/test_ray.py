"""Scores on a real Ray cluster of several raylets: the value of all samples, and what may go wrong."""

from __future__ import annotations

import datetime
import math
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import batchproof
from batchproof.errors import BatchproofError
from batchproof.scoring import ray_engine, ray_worker

pytest.importorskip("ray")
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]
RMSE = """
import torch

def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))
"""


def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))


def r2(pred, real):
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


def deviation(real):
    return real.sort().values.diff().max()


def steps(pred):
    return pred.diff().abs().mean()


def by_hand(table: pa.Table) -> dict[str, float]:
    pred, real = (table.column(name).to_numpy().astype("float64") for name in ("pred", "real"))
    return {
        "rmse": math.sqrt(((pred - real) ** 2).mean()),
        "r2": 1 - ((real - pred) ** 2).sum() / ((real - real.mean()) ** 2).sum(),
    }


@pytest.fixture(scope="module")
def table() -> pa.Table:
    draw = np.random.default_rng(0)
    rows = 60_000
    real = draw.normal(1000.0, 1.0, rows).astype("float32")
    user = draw.integers(0, 300, rows).astype("int32")
    spread = np.where(user % 2, 0.5, 2.0)
    weight = draw.choice([0.5, math.nan], rows)
    return pa.table({"pred": (real + spread * draw.normal(size=rows)).astype("float32"), "real": real, "user": user,
                     "weight": weight})  # fmt: skip


@pytest.fixture(scope="module")
def folder(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of very different sizes, one of which has no rows."""
    found = tmp_path_factory.mktemp("scores")
    start = 0
    for number, rows in enumerate([1, 0, 30_000, 7, 9_992, 5_000, 5_000, 10_000]):
        pq.write_table(table.slice(start, rows), found / f"{number}.parquet", row_group_size=4_000)
        start += rows
    assert start == table.num_rows
    return found


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task for every few thousand rows."""
    monkeypatch.setattr(ray_engine, "TASK_ROWS", 4_000)


def plain(found: Any) -> Any:
    """All that is found, without how long it took and on what."""
    return [(n.name, n.value, n.standard_error, n.averaged) for n in found.numbers], found.groups, found.rows


def agree(found: Any, wanted: Any) -> None:
    """To rounding: the cells of error bars are cut otherwise where the pieces are."""
    assert found.rows == wanted.rows
    for mine, theirs in zip(found.numbers, wanted.numbers, strict=True):
        assert mine.value == pytest.approx(theirs.value, rel=1e-11)
    assert [(group.key, group.rows) for group in found.groups] == [(group.key, group.rows) for group in wanted.groups]
    values = [np.array([group.values for group in one.groups]) for one in (found, wanted)]
    np.testing.assert_allclose(*values, rtol=1e-8)


# ---------------------------------------------------------------------- the value


def test_the_same_on_any_number_of_nodes_and_after_losing_all_of_them(nodes, small_tasks, folder, table):
    local = batchproof.score(folder, [rmse, r2], by="user")
    for number in local.numbers:
        assert number.value == pytest.approx(by_hand(table)[number.name], rel=1e-9)
    found = []
    for count in (1, 2, 4):
        nodes.set(count)
        found.append(batchproof.score(folder, [rmse, r2], by="user", engine="ray"))
        assert found[-1].engine == f"Ray, {count + 1} nodes"
    nodes.set(1)  # all that is done before it is lost is lost with it
    scored: list[int] = []

    def lose(text: str, done: int, total: int | None) -> None:
        if done and not scored and "rows per second" in text:
            nodes.replace_all()
            scored.append(done)

    found.append(batchproof.score(folder, [rmse, r2], by="user", engine="ray", progress=lose))
    assert 0 < scored[0] < table.num_rows  # some of it was done, and is lost
    agree(found[0], local)
    assert found[0].numbers == local.numbers
    for one in found[1:]:
        assert plain(one) == plain(found[0])


def test_samples_are_in_order_whichever_task_ends_first(nodes, small_tasks, monkeypatch, folder, table):
    before = ray.wait

    def last_first(refs: Any, **_: Any) -> Any:
        done, left = before(refs, num_returns=len(refs), timeout=60)
        return done[::-1], left

    monkeypatch.setattr(ray, "wait", last_first)
    found = batchproof.score(folder, steps, engine="ray")
    assert found.numbers[0].kept
    pred = table.column("pred").to_numpy().astype("float64")
    assert found.value == pytest.approx(np.abs(np.diff(pred)).mean(), rel=1e-6)
    assert found.value == batchproof.score(folder, steps).value


def test_ctrl_c_gives_what_was_scored(nodes, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_engine, "TASK_ROWS", 1_000)
    for number in range(16):
        pq.write_table(pa.table({"x": np.full(1_000, 2.0**number)}), tmp_path / f"{number:02}.parquet")

    def press(text: str, done: int, total: int | None) -> None:
        if done:
            signal.raise_signal(signal.SIGINT)

    def mean(x):
        return x.mean()

    found = batchproof.score(tmp_path, mean, engine="ray", progress=press)
    assert found.interrupted
    scored = round(found.value * found.rows / 1_000)  # a bit for each file
    assert scored.bit_count() * 1_000 == found.rows < 16_000
    assert found.pieces == scored.bit_count()


def test_functions_of_main_and_of_a_file_by_the_address_of_a_client_server(nodes, folder, tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "losses.py").write_text(RMSE, encoding="utf-8")  # a folder that workers do not know
    ask = f"""
import batchproof
from batchproof.cli import main
found = batchproof.score({str(folder)!r}, rmse, engine="ray://127.0.0.1:25001")
print(found.engine, found.value)
main("score {folder} --fn hidden/losses.py:rmse --engine ray://127.0.0.1:25001 --json".split())
"""
    first, shown = python(RMSE + ask, tmp_path).split("\n", 1)
    wanted = batchproof.score(folder, rmse).value
    assert first.startswith("Ray, 2 nodes ")
    assert float(first.split()[-1]) == pytest.approx(wanted, rel=1e-12)
    assert float(shown.partition('"value": ')[2].partition(",")[0]) == pytest.approx(wanted, rel=1e-12)


def test_the_example(nodes, capsys):
    runpy.run_path(str(ROOT / "examples" / "score_on_ray.py"), run_name="__main__")
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["all", "user", "user", "user"]
    assert shown[0].endswith("Ray, 2 nodes")
    assert all(0.7 < float(line.split()[-3]) < 0.8 for line in shown[1:])


def python(code: str, folder: Path, **environment: str) -> str:
    """What another process prints."""
    path = folder / "script.py"
    path.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------------- the data


def in_memory(table: pa.Table) -> dict[str, Any]:
    return {
        "table": table,
        "frame": table.to_pandas(),
        "tensors": {name: torch.from_numpy(table.column(name).to_numpy().copy()) for name in table.column_names},
    }


@pytest.mark.parametrize("kind", ["table", "frame", "tensors"])
def test_data_in_memory_goes_to_the_workers(nodes, small_tasks, monkeypatch, table, kind):
    from batchproof.scoring import arrays, tables  # how rows in memory are cut

    for module in (arrays, tables, batchproof.scoring.blocks):
        monkeypatch.setattr(module, "PART_ROWS", 5_000)
    data = in_memory(table)[kind]
    found = batchproof.score(data, [rmse, deviation], engine="ray")
    assert found.pieces == 12
    agree(found, batchproof.score(data, [rmse, deviation]))


def test_keys_that_are_equal_to_none(nodes, small_tasks, folder, table):
    found = batchproof.score(folder, rmse, by="weight", engine="ray")
    local = batchproof.score(folder, rmse, by="weight")
    assert [group.rows for group in found.groups] == [group.rows for group in local.groups]
    assert len(found.groups) == 2
    assert math.isnan(found.groups[1].key[0])


def uneven(table: pa.Table) -> Any:
    """A Ray dataset of blocks of very different sizes, one without rows."""
    return ray.data.from_arrow([table.slice(0, 1), table.slice(1, 0), table.slice(1, 40_000), table.slice(40_001)])


@pytest.mark.parametrize("over", ["dataset", "samples"])
def test_a_ray_dataset(nodes, table, over):
    nodes.set(2)
    functions = [rmse, deviation] if over == "dataset" else rmse
    local = batchproof.score(table, functions, by="weight", over=over)
    found = batchproof.score(uneven(table), functions, by="weight", over=over)
    agree(found, local)
    assert (found.data, found.engine, found.pieces) == ("Ray Dataset", "Ray, 3 nodes", 3)
    if over == "dataset":
        error = table.column("pred").to_numpy().astype("float64") - table.column("real").to_numpy()
        blocks = [math.sqrt((part**2).mean()) for part in (error[:1], error[1:40_001], error[40_001:])]
        assert (found.numbers[0].averaged.what, found.numbers[0].averaged.parts) == ("blocks", 3)
        assert found.numbers[0].averaged.mean == pytest.approx(np.mean(blocks), rel=1e-6)
        assert found.numbers[0].value == pytest.approx(by_hand(table)["rmse"], rel=1e-9)


def test_a_ray_dataset_of_frames(nodes, table):
    found = batchproof.score(ray.data.from_pandas(table.to_pandas()), r2)
    agree(found, batchproof.score(table, r2))


def test_tensors_of_a_ray_dataset(nodes):
    def spread(logits, label):
        return (logits[:, 1].mean(1) - label).square().mean().sqrt()

    logits = np.random.default_rng(0).normal(size=(500, 2, 3)).astype("float32")
    data = ray.data.from_numpy(logits).rename_columns({"data": "logits"})
    data = data.zip(ray.data.from_numpy(np.arange(500.0)).rename_columns({"data": "label"}))
    wanted = np.sqrt(((logits[:, 1].astype("float64").mean(1) - np.arange(500.0)) ** 2).mean())
    assert batchproof.score(data, spread).value == pytest.approx(wanted, rel=1e-6)


def test_nulls_and_days_of_a_ray_dataset(nodes):
    day = [datetime.date(2026, 1, 1 + row % 3) for row in range(300)]
    table = pa.table({"x": [None if row % 7 == 0 else float(row) for row in range(300)], "day": day})
    data = ray.data.from_arrow([table.slice(0, 100), table.slice(100)])

    def mean(x):
        return x.mean()

    with pytest.raises(BatchproofError, match=r"x is null in row \d+ of (a block of )?the Ray Dataset: leave"):
        batchproof.score(data, mean, by="day")
    found = batchproof.score(data, mean, by="day", nulls="drop")
    agree(found, batchproof.score(table, mean, by="day", nulls="drop"))
    assert found.dropped == 43


# ---------------------------------------------------------------------- what goes wrong


def test_what_a_function_raises_is_raised(nodes, folder, table):
    def strict(pred):
        if len(pred) == 1 and pred[0] != 0:
            raise ArithmeticError("one sample")
        return pred.mean()

    for data in (folder, uneven(table)):
        with pytest.raises((ArithmeticError, BatchproofError), match="one sample") as raised:
            batchproof.score(data, strict, over="samples", engine="ray")
        assert "ray::" not in str(raised.value)


def test_a_file_that_is_gone_and_one_that_workers_do_not_see(nodes, tmp_path, monkeypatch):
    for number in range(2):
        pq.write_table(pa.table({"x": np.ones(10)}), tmp_path / f"{number}.parquet")

    def mean(x):
        return x.mean()

    handle = os.open(tmp_path, os.O_RDONLY)  # a path that means this folder in this process alone
    try:
        with pytest.raises(BatchproofError, match=r"0.parquet is on this machine, and a worker \(node [\d.]+\) does"):
            batchproof.score(f"/proc/self/fd/{handle}", mean, engine="ray")
    finally:
        os.close(handle)
    monkeypatch.setattr(ray_engine, "gather", gone(tmp_path / "1.parquet", ray_engine.gather))
    with pytest.raises(BatchproofError, match=r"1.parquet is gone: it was there when the files were listed"):
        batchproof.score(tmp_path, mean, engine="ray")


def gone(file: Path, then: Any) -> Any:
    def gather(*args: Any) -> Any:
        file.unlink()
        return then(*args)

    return gather


def test_another_batchproof_on_the_nodes(nodes, folder, monkeypatch):
    monkeypatch.setattr(ray_worker, "VERSION", "9.9.9")
    pattern = r"a worker \(node [\d.]+\) has batchproof [\d.]+\w*: install batchproof 9.9.9 on every node"
    for data in (folder, ray.data.from_items([{"pred": 1.0, "real": 2.0}] * 100)):
        with pytest.raises(BatchproofError, match=pattern):
            batchproof.score(data, rmse, engine="ray")


def test_no_batchproof_on_the_nodes(nodes, cluster, folder, tmp_path):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "batchproof.py").write_text("")  # found first by what a node imports
    ask = f"""
import ray, batchproof
environment = {{"env_vars": {{"PYTHONPATH": {str(tmp_path / "nothing")!r}}}}}
ray.init({cluster.address!r}, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
try:
    batchproof.score({str(folder)!r}, rmse, engine="ray")
except batchproof.BatchproofError as error:
    print(error)
"""
    assert "has no batchproof: install batchproof " in python(RMSE + ask, tmp_path)


def test_a_module_that_is_only_here(nodes, folder, tmp_path, monkeypatch):
    (tmp_path / "helpers.py").write_text("def near(pred, real):\n    return (pred - real).square().mean()\n")
    monkeypatch.syspath_prepend(tmp_path)
    from helpers import near

    def root(pred, real):
        return near(pred, real).sqrt()

    with pytest.raises(
        BatchproofError, match=r"a worker \(node [\d.]+\) has no module helpers, which a function needs"
    ):
        batchproof.score(folder, root, engine="ray")


def test_no_cluster_at_the_address(nodes, folder, tmp_path):
    ask = f"""
import batchproof
for address in ("ray://127.0.0.1:1", "ray"):
    try:
        batchproof.score({str(folder)!r}, rmse, engine=address)
    except batchproof.BatchproofError as error:
        print(error)
"""
    said = python(RMSE + ask, tmp_path, RAY_ADDRESS="127.0.0.1:2").splitlines()
    assert said[0].startswith("no Ray cluster answers at ray://127.0.0.1:1: ")
    assert said[1].startswith("no Ray cluster answers at 127.0.0.1:2: ")
    with pytest.raises(BatchproofError, match="this process is connected to a Ray cluster already"):
        batchproof.score(folder, rmse, engine="ray://127.0.0.1:1")
