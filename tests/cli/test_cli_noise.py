"""`batchproof noise` in a shell: its targets, its exit status, Ctrl-C, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from batchproof import gradient_noise
from batchproof.cli import main
from batchproof.gradients.noise.example import regression
from commands import command, inside, refusal, watched

TRAIN = """
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = torch.randn(90, 4), torch.randint(0, 3, (90,))
x[torch.arange(90), y] += 2
model = torch.nn.Linear(4, 3)
loss_fn = torch.nn.functional.cross_entropy
parts = model, loss_fn, (x, y)

def make():
    print("hello from make")
    return model, loss_fn, DataLoader(TensorDataset(x, y), batch_size=32)

def two():
    return model, loss_fn

def with_arguments(rate, size):
    return make()

def broken():
    raise ValueError("no such thing")

def summed():
    return model, torch.nn.CrossEntropyLoss(reduction="sum"), (x, y)

def drowned():
    x = torch.randn(30, 4)
    return torch.nn.Linear(4, 1, bias=False), lambda p, t: (p * t).mean(), (x, torch.randn(30, 1))
"""
FEW = ["--batches", "5", "--batch-size", "1,16"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with inside(tmp_path, monkeypatch, {"train.py": TRAIN}, columns=100) as folder:
        yield folder


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    return command(capsys, "noise", *args)


def fails(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    return refusal(capsys, "noise", *args)


def test_without_a_target_a_regression_whose_noise_scale_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    assert out.startswith("✓ batches up to about 49 ± 6 samples pay off (gradient noise scale)")
    assert "for endless samples of it the noise scale is 51" in " ".join(out.split())
    assert "1,024 samples, 10 parameters" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_function_that_gives_model_loss_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "train.py:make", "--mark", "8", *FEW)
    assert status == 0
    assert "hello from make" in err
    assert out.splitlines()[0].startswith("✓ batches up to about ")
    assert out.splitlines()[0].endswith("train.py:12")
    assert "  at your batch size, 8, a step makes " in out
    assert "▸ 8" in out
    assert "endless samples" not in out
    assert run(capsys, "train:parts", *FEW)[0] == 0


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "train.py:make", *FEW, "--mark", "7", "--seed", "3", "--json")
    data = json.loads(out)
    assert status == 0
    assert [row["size"] for row in data["rows"]] == [1, 7, 16]
    assert (data["marked"], data["seed"], data["batches"], data["method"]) == (7, 3, 5, "per-sample")
    again = json.loads(run(capsys, "train.py:make", *FEW, "--mark", "7", "--seed", "3", "--json")[1])
    assert again["rows"] == data["rows"]


def test_status_where_the_samples_show_no_gradient(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "train.py:drowned", *FEW)
    assert status == 2
    assert "could not tell which batch size is large enough" in out


def test_reports_as_files(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    pytest.importorskip("matplotlib")
    status, _, err = run(capsys, *FEW, "--html", "report.html", "--png", "report.png")
    assert (status, err) == (0, "wrote report.html\nwrote report.png\n")
    assert "(gradient noise scale)" in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--batch-size", "0,1"], "--batch-size takes whole numbers from 1 on, as in 16,64,128, not '0,1'"),
        (["--batch-size", "2048"], "a batch of 2,048 cannot be drawn: the data has 1,024 samples"),
        (["--batches", "0"], "batches must be a whole number from 1 on, not 0"),
        (["--mark", "0"], "Invalid value for '--mark'"),
        (["--mark", "5000"], "a batch of 5,000 cannot be drawn"),
        (["train.py:mak"], "train.py has no mak; did you mean make"),
        (["train.py"], "which name in train.py? It has train.py:make"),
        (["none.py:make"], "there is no file none.py"),
        (["train.py:two"], "train.py:two is or returns tuple, and not the three of (model, loss_fn, data)"),
        (["train.py:x"], "train.py:x is or returns Tensor, and not the three of (model, loss_fn, data)"),
        (["train.py:model"], "train.py:model takes input: name a function without parameters that returns"),
        (["train.py:with_arguments"], "train.py:with_arguments takes rate, size: name a function without parameters"),
        (["train.py:summed"], "the loss is the sum over the batch"),
        (["train.py:make", "extra"], "unexpected extra argument"),
        (["--html", "nowhere/report.html"], "there is no directory nowhere"),
    ],
)
def test_one_line_for_what_goes_wrong(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    status, out, err = command(capsys, "noise", *args)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_which_of_the_parts_do_not_fit(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    cases = {
        "model, loss_fn, (x[:, :3], y)": "Linear does not take inputs of shape (batch, 3): RuntimeError: ",
        "model, loss_fn, (x, x[:, :2])": "shape (batch, 3) with a target of shape (batch, 2): RuntimeError: ",
        "model, lambda a: a.mean(), (x, y)": "with a target of shape (batch,): TypeError: ",
    }
    for number, (parts, message) in enumerate(cases.items()):
        (folder / f"parts{number}.py").write_text(f"{TRAIN}\nparts = {parts}\n")
        found = fails(capsys, f"parts{number}.py:parts", *FEW)
        assert message in found


def test_the_targets_own_error(capsys: pytest.CaptureFixture[str]) -> None:
    found = fails(capsys, "train.py:broken", *FEW)
    assert "no such thing" in found
    assert "train.py" in found


def test_what_was_done_by_ctrl_c_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(gradient_noise(*regression(), batch_sizes=[1, 16], batches=3), interrupted=True, marked=1000)
    monkeypatch.setattr("batchproof.cli.noise._measured", lambda *args: found)
    status, out, _ = run(capsys, "--mark", "1000")
    assert status == 130
    assert "  interrupted after size 16" in out
    assert "your batch size, 1,000, was not reached" in out


def test_ctrl_c_before_anything_was_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("batchproof.cli.noise._measured", interrupted)
    status, out, err = run(capsys)
    assert (status, out, err.strip()) == (130, "", "error: interrupted")


def test_progress_where_somebody_looks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    assert main(["noise", *FEW]) == 0
    assert "batches of 16" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert capsys.readouterr().out.startswith("✓ batches")


def test_help_has_examples_and_needs_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert "batchproof noise train.py:make --mark 32" in out
    code = "import sys; from batchproof.cli import main; main(['noise', '--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_gradients_of_the_users_model_are_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "train.py:make", *FEW)
    model = sys.modules["train"].model
    torch.manual_seed(0)
    torch.randn(90, 4), torch.randint(0, 3, (90,))
    assert torch.equal(model.weight, torch.nn.Linear(4, 3).weight)
    assert model.weight.grad is None
