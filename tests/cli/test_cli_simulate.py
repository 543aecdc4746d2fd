"""`batchproof simulate` in a shell: where its samples come from, its exit status, Ctrl-C, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import batchproof
from batchproof.cli import main
from batchproof.cli.example import errors_in
from commands import command, inside, refusal, watched

LOSS = """
import torch

def rmse(pred, real):
    return torch.sqrt(((pred - real) ** 2).mean())

def mse(errors):
    return (errors ** 2).mean()

def strict(pred, real):
    if not real.is_floating_point():
        raise TypeError("floats only")
    return rmse(pred, real)

def chatty(errors):
    print("hello from the loss")
    return mse(errors)

def broken(errors):
    raise ValueError("no such thing")
"""
FEW = ["--batches", "200", "--batch-size", "1,16"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    rows = [f"{torch.randn(()).item()},{index % 7}" for index in range(60)]
    files = {"loss.py": LOSS, "data.csv": "\n".join(["forecast,actual", *rows])}
    with inside(tmp_path, monkeypatch, files, columns=100) as folder:
        yield folder


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    return command(capsys, "simulate", *args)


def fails(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    return refusal(capsys, "simulate", *args)


def test_without_a_target_the_questions_tables(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--batch-size", "1,16,1e9", "-v")
    assert (status, err) == (1, "")
    assert out.startswith("✗ averaged over batches, rmse is 1.5% too low at batch size 16, ")
    assert "all samples pooled (Example 1)" in out
    assert "10,000 batches of each size, seed 0" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_json_and_the_readers_own_size(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "loss.py:rmse", *FEW, "--mark", "7", "--seed", "3", "--json", "--scale", "2.5")
    data = json.loads(out)
    assert status == data["exit_status"] == 1 if "exit_status" in data else status == 1
    assert [row["size"] for row in data["rows"]] == [1, 7, 16]
    assert (data["marked"], data["seed"], data["batches"], data["target"]) == (7, 3, 200, "rmse(pred, real)")
    assert data["errors"] == "normal errors of scale 2.5"
    again = json.loads(run(capsys, "loss.py:rmse", *FEW, "--mark", "7", "--seed", "3", "--json", "--scale", "2.5")[1])
    assert again["rows"] == data["rows"]


def test_the_usual_sizes_and_the_readers_own(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--batches", "20", "--mark", "64")
    assert "  at your batch size, 64, it is 0.4% too low" in out
    assert out.count("▸ 64") == 1
    assert " 100,000 " in out


def test_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "loss.py:mse", *FEW)[0] == 0
    assert run(capsys, "loss.py:rmse", *FEW, "--errors", "laplace")[0] == 1
    assert run(capsys, *FEW, "--errors", "t:3", "--draw-all", "--threads", "1")[0] == 1


def test_every_sample_can_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    drawn, direct = (json.loads(run(capsys, *FEW, "--json", *more)[1])["rows"] for more in (["--draw-all"], []))
    assert {row["how"] for row in drawn} == {"drawn"}
    assert {row["how"] for row in direct} == {"direct"}


def test_the_users_own_samples(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["--column", "pred=forecast", "--column", "real=actual"]
    status, out, _ = run(capsys, "loss.py:rmse", "--data", "data.csv", *columns, *FEW)
    assert status == 1
    assert "  data.csv: 60 samples, drawn with replacement; 200 batches of each size" in out
    assert run(capsys, "loss.py:strict", "--data", "data.csv", *columns, *FEW)[0] == 1
    alone = run(capsys, "--data", "data.csv", *FEW)
    assert alone[0] == 1
    assert alone[1].startswith("✗ averaged over batches, rmse is")
    assert "data.csv: 60 samples" in alone[1]


def write(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "some.csv"
    path.write_text("\n".join([header, *rows]))
    return path


@pytest.mark.parametrize(
    ("header", "rows", "mapping", "errors"),
    [
        ("id,error", ("7,1.5", "8,-2.5"), {}, [1.5, -2.5]),
        ("Residuals,x", ("3,1", "4,1"), {}, [3.0, 4.0]),
        ("target,model_3", ("3,1", "4,1"), {}, [-2.0, -3.0]),
        ("y_true,y_pred", ("3,1", "4,1"), {}, [-2.0, -3.0]),
        ("pred,real,fold", ("3,1,0", "4,1,0"), {}, [2.0, 3.0]),
        ("a,b", ("3,1", "4,1"), {"pred": "a", "real": "b"}, [2.0, 3.0]),
        ("a,b", ("3,1", "4,1"), {"real": "a", "pred": "b"}, [-2.0, -3.0]),
        ("a,b", ("3,1", "4,1"), {"error": "b"}, [1.0, 1.0]),
        # near each other, and far from 0: float32 would have lost the difference
        ("pred,real", ("100000001,100000000", "4,1"), {}, [1.0, 3.0]),
    ],
)
def test_errors_in_a_file(
    folder: Path, header: str, rows: tuple[str, ...], mapping: dict[str, str], errors: list[float]
) -> None:
    assert errors_in(write(folder, header, *rows), mapping).tolist() == errors


def test_errors_in_a_file_of_tensors(folder: Path) -> None:
    torch.save(torch.tensor([1.0, 2.0]), folder / "one.pt")
    torch.save((torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])), folder / "two.pt")
    assert errors_in(folder / "one.pt", {}).tolist() == [1.0, 2.0]
    assert errors_in(folder / "two.pt", {}).tolist() == [-2.0, -3.0]


@pytest.mark.parametrize(
    ("header", "row", "args", "message"),
    [
        (
            "a,b",
            "1,2",
            [],
            "has the columns a, b: none is called error, and which two hold a prediction and its",
        ),
        ("real,b,c", "1,2,3", [], "name them with --column error=... or with --column pred=... --column real=..."),
        ("pred,real", "1,x", [], "the column of real does not hold numbers"),
        ("pred,real", "1,2", ["--column", "pred=no"], "has the columns pred, real, and no no"),
        ("pred,real", "1,2", ["--column", "pred=pred"], "none is called error"),
        ("error", "nan", [], "NaN"),
        ("error,x", ",1", [], "NaN"),
        ("pred,real", "1,2", ["--errors", "t:3"], "--errors is for a distribution, and --data brings samples"),
        ("pred,real", "1,2", ["--scale", "3"], "--scale is for a distribution, and --data brings samples"),
    ],
)
def test_files_without_errors(
    capsys: pytest.CaptureFixture[str], folder: Path, header: str, row: str, args: list[str], message: str
) -> None:
    write(folder, header, row, row)
    found = fails(capsys, "--data", "some.csv", *args, *FEW)
    assert message in found
    assert "\n" not in found


def test_shapes_that_do_not_fit(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    torch.save({"pred": torch.ones(5, 1), "real": torch.ones(5)}, folder / "two.pt")
    assert "pred (5, 1) and real (5,) do not have the same shape" in fails(capsys, "--data", "two.pt", *FEW)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--batch-size", "0,1"], "--batch-size takes whole numbers from 1 on, as in 16,64,128, not '0,1'"),
        (["--batch-size", "-4"], "--batch-size takes whole numbers from 1 on"),
        (["--batch-size", "1.5"], "--batch-size takes whole numbers from 1 on"),
        (["--batch-size", "inf"], "--batch-size takes whole numbers from 1 on"),
        (["--batch-size", ""], "--batch-size takes whole numbers from 1 on"),
        (["--batches", "0"], "batches must be a whole number from 1 on, not 0"),
        (["--threads", "0"], "threads must be a whole number from 1 on, not 0"),
        (["--errors", "gauss"], "gauss"),
        (["--errors", "t:-1"], "t:-1"),
        (["--scale", "0"], "scale"),
        (["--scale", "nan"], "scale"),
        (["--mark", "0"], "Invalid value for '--mark'"),
        (["loss.py:rmsee"], "loss.py has no rmsee; did you mean rmse"),
        (["--data", "none.csv"], "there is no file none.csv"),
        (["--column", "pred"], "--column takes PARAM=COLUMN, not 'pred'"),
        (["loss.py:rmse", "extra"], "unexpected extra argument"),
    ],
)
def test_one_line_for_what_goes_wrong(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    found = fails(capsys, *args)
    assert message in found
    assert "\n" not in found


def test_the_targets_own_error(capsys: pytest.CaptureFixture[str]) -> None:
    found = fails(capsys, "loss.py:broken", *FEW)
    assert "no such thing" in found
    assert "loss.py" in found


def test_what_the_target_prints_does_not_mix_with_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = run(capsys, "loss.py:chatty", *FEW, "--json")
    assert json.loads(out)["target"] == "chatty(errors)"
    assert "hello from the loss" in err


def test_reports_as_files(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    pytest.importorskip("matplotlib")
    status, _, err = run(capsys, *FEW, "--html", "report.html", "--png", "report.png")
    assert (status, err) == (1, "wrote report.html\nwrote report.png\n")
    assert "mean of per-batch values" in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")


def verb(interrupted: bool) -> Callable[..., Any]:
    def simulate(*args: Any, **kwargs: Any) -> Any:
        found = batchproof.simulate(batch_sizes=[1, 16], batches=200)
        return replace(found, interrupted=interrupted)

    return simulate


def test_what_was_done_by_ctrl_c_is_shown(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchproof.cli.simulate._simulated", verb(interrupted=True))
    status, out, _ = run(capsys, "--mark", "1000", "--html", "report.html")
    assert status == 130
    assert "  interrupted after size 16" in out
    assert "your batch size, 1,000, was not reached" in out
    assert "interrupted after size 16" in (folder / "report.html").read_text(encoding="utf-8")


def test_ctrl_c_before_anything_was_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("batchproof.cli.simulate._simulated", interrupted)
    status, out, err = run(capsys)
    assert (status, out, err.strip()) == (130, "", "error: interrupted")


def test_progress_with_the_time_left_where_somebody_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = watched(monkeypatch)
    assert main(["simulate", *FEW]) == 1
    assert "batches of 16" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert " left" in terminal.getvalue()
    assert capsys.readouterr().out.startswith("✗ averaged")


def test_it_can_be_run_as_a_module() -> None:
    command = [sys.executable, "-m", "batchproof", "simulate", *FEW]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("✗ averaged")
