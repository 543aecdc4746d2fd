"""The command line: what it prints, its exit status, and one clear line for each thing that goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import batchproof
from batchproof.cli import main
from commands import command as run
from commands import inside, watched
from commands import refusal as fails

LOSS = """
import torch

def rmse(pred, real):
    root = torch.sqrt(((pred - real) ** 2).mean())
    return root

def mse(pred, real):
    return ((pred - real) ** 2).mean()

def cross_entropy(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels)

def chatty(pred, real):
    print("hello from the loss")
    return mse(pred, real)

def strict(pred, real):
    if not real.is_floating_point():
        raise TypeError("floats only")
    return mse(pred, real)

def broken(pred, real):
    raise ValueError("shapes do not fit\\nmore about it")

class Metric:
    def __init__(self):
        self.reset()
    def reset(self):
        self.total, self.n = 0.0, 0
    def update(self, pred, real):
        self.total += rmse(pred, real).item()
        self.n += 1
    def compute(self):
        return self.total / self.n

class Wide(torch.nn.Module):
    def __init__(self, width):
        super().__init__()

def make_model():
    return torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.BatchNorm1d(3))

model = make_model()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    rows = [f"{torch.randn(()).item()},{index % 7}" for index in range(60)]
    files = {"loss.py": LOSS, "data.csv": "\n".join(["pred,real", *rows])}
    with inside(tmp_path, monkeypatch, files, columns=80) as folder:
        yield folder


def test_a_loss_with_data(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "explain", "loss.py:rmse", "--data", "data.csv")
    assert (status, err) == (1, "")
    assert out.startswith("✗ rmse depends on the batch size: ")
    assert "loss.py:5   root = torch.sqrt(((pred - real) ** 2).mean())" in out
    assert "too low at batch size" in " ".join(out.split())
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "guessed" not in out


def test_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "explain", "loss.py:mse", "--data", "data.csv")[0] == 0
    assert run(capsys, "explain", "loss.py:mse")[0] == 2, "what is guessed proves nothing"
    assert run(capsys, "explain", "loss.py:rmse")[0] == 1
    assert run(capsys, "explain", "loss.py:model")[0] == 1
    assert run(capsys, "explain", "loss.py:Metric", "--data", "data.csv")[0] == 1
    assert run(capsys, "explain", "torch.nn.functional:mse_loss")[0] == 2


def test_what_is_guessed_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "explain", "loss.py:cross_entropy")
    assert "guessed inputs: logits float32 (500, 5), labels int64 (500,);" in " ".join(out.split())


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data", "data.csv", "--json", "--batch-size", "1,16", "--seed", "3")
    status, out, _ = run(capsys, "explain", "loss.py:chatty", *options)
    data = json.loads(out)
    assert status == data["exit_status"] == 0
    assert data["verdict"] == "mean"
    assert [reading["size"] for reading in data["curve"]["readings"]] == [1, 16]


def test_a_name_in_a_package_and_a_call(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("from .inner import mse")
    (folder / "pack" / "inner.py").write_text(LOSS)
    assert run(capsys, "explain", "pack:mse", "--data", "data.csv")[0] == 0
    assert run(capsys, "explain", "pack.inner:rmse")[0] == 1
    assert run(capsys, "explain", "loss.py:make_model()")[0] == 1


def test_a_file_of_a_package_may_import_relatively(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "src" / "family" / "inner").mkdir(parents=True)
    for package in ("family", "family/inner"):
        (folder / "src" / package / "__init__.py").write_text("")
    (folder / "src" / "family" / "shared.py").write_text(LOSS)
    (folder / "src" / "family" / "inner" / "losses.py").write_text("from ..shared import mse, rmse\n")
    assert run(capsys, "explain", "src/family/inner/losses.py:mse", "--data", "data.csv")[0] == 0
    assert run(capsys, "explain", "src/family/shared.py:rmse")[0] == 1


def test_a_target_that_ends_python(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "ends.py").write_text("import sys\ndef loss(pred, real):\n    sys.exit(7)\n")
    assert fails(capsys, "explain", "ends.py:loss").startswith("the target ended Python, by exit(7)")


def test_what_is_python_only_says_how_it_begins_there(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("exact", "accumulate"):
        said = fails(capsys, name, "loss.py:rmse")
        assert said.startswith(f"{name} is Python, not a command:\n  import batchproof\n")
        assert f"batchproof.{name}(" in said


def test_no_summary_is_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = run(capsys, "--help")[1]
    assert "..." not in out.partition("Commands:")[2]
    assert max(map(len, out.splitlines())) <= 80


def test_batch_sizes_are_given_by_one_option_and_the_older_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--batch-size", "--batch-sizes"):
        out = run(capsys, "explain", "loss.py:mse", "--json", option, "1,16")[1]
        assert [reading["size"] for reading in json.loads(out)["curve"]["readings"]] == [1, 16]
    for command in ("check", "compare", "explain", "simulate", "noise"):
        out = run(capsys, command, "--help")[1]
        assert "--batch-size " in out
        assert "--batch-sizes" not in out


def test_a_verdict_alone_and_all_there_is(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    few = ("simulate", "--batches", "100", "--batch-size", "1,16")
    assert len(run(capsys, *few, "-q")[1].splitlines()) == 2
    brief, whole = run(capsys, *few)[1], run(capsys, *few, "-v", "--output", "found.json")[1]
    assert "-v: standard errors, expected values, theory" in brief
    assert "expected" not in brief.replace("-v: standard errors, expected values, theory", "")
    assert "mean / pooled" in whole
    assert json.loads((folder / "found.json").read_text())["batches"] == 100


def test_a_file_with_one_function_needs_no_name(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "one.py").write_text("def mse(pred, real):\n    return ((pred - real) ** 2).mean()\n")
    assert run(capsys, "explain", "one.py", "--data", "data.csv")[0] == 0
    assert "which name in loss.py? It has loss.py:rmse, loss.py:mse" in fails(capsys, "explain", "loss.py")


def test_a_file_finds_its_neighbours_and_may_be_called_like_a_library(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "near.py").write_text("from helper_of_mine import mse as mine")
    (folder / "sub" / "helper_of_mine.py").write_text("def mse(pred, real):\n    return ((pred - real) ** 2).mean()")
    assert run(capsys, "explain", "sub/near.py:mine", "--data", "data.csv")[0] == 0
    (folder / "json.py").write_text("def mse(pred, real):\n    return ((pred - real) ** 2).mean()")
    assert run(capsys, "explain", "json.py:mse", "--json", "--data", "data.csv")[0] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["loss.py:rmsee"], "loss.py has no rmsee; did you mean rmse"),
        (["los.py:rmse"], "there is no file los.py; did you mean loss.py?"),
        (["torch.nn.functional.mse_loss"], "did you mean torch.nn.functional:mse_loss?"),
        (["no_such_thing:f"], "there is no module no_such_thing"),
        (["loss.py:Wide"], "loss.py:Wide cannot be made without arguments"),
        (["torch:pi"], "float is neither a function, nor a metric object, nor a model"),
        (["loss.py:mse", "--data", "none.csv"], "there is no file none.csv"),
        (["loss.py:mse", "--data", "loss.py"], "cannot read .py files; use .csv, .feather, .npy"),
        (["loss.py:mse", "--batch-size", "0,1"], "--batch-size takes whole numbers from 1 on"),
        (["loss.py:mse", "--batch-size", "a"], "--batch-size takes whole numbers from 1 on"),
        (["loss.py:mse", "--seed", "x"], "Invalid value for '--seed'"),
        (["loss.py:mse", "--data", "data.csv", "--column", "pred"], "--column takes PARAM=COLUMN, not 'pred'"),
        (["loss.py:mse", "--batch-dim", "3"], "no dimension 3"),
    ],
)
def test_one_line_for_what_goes_wrong(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    found = fails(capsys, "explain", *args)
    assert message in found
    assert "\n" not in found


def test_columns_that_do_not_match_are_listed_with_the_parameters(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "other.csv").write_text("forecast,truth\n1,2\n2,3\n4,4\n")
    found = fails(capsys, "explain", "loss.py:rmse", "--data", "other.csv")
    assert "other.csv has the columns forecast, truth, and rmse(pred, real) takes pred, real" in found
    columns = ["--column", "pred=forecast", "--column", "real=truth"]
    assert run(capsys, "explain", "loss.py:rmse", "--data", "other.csv", *columns)[0] == 1
    assert "takes pred, real" in fails(capsys, "explain", "loss.py:rmse", "--data", "other.csv", "--column", "pred=no")


def test_the_targets_own_error_comes_with_its_line_and_without_ours(capsys: pytest.CaptureFixture[str]) -> None:
    found = fails(capsys, "explain", "loss.py:broken", "--data", "data.csv").splitlines()
    assert found[0] == "ValueError: shapes do not fit"
    assert found[1].endswith('raise ValueError("shapes do not fit\\nmore about it")')
    assert "loss.py:24" in found[1]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import not_installed_here", "ModuleNotFoundError: No module named 'not_installed_here'"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", 'put its work under if __name__ == "__main__":'),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported(
    capsys: pytest.CaptureFixture[str], folder: Path, source: str, message: str
) -> None:
    (folder / "bad.py").write_text(source)
    assert message in fails(capsys, "explain", "bad.py:f")


def test_whole_numbers_become_floats_where_the_function_wants_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "explain", "loss.py:strict", "--data", "data.csv")[0] == 0


def test_what_the_target_prints_does_not_mix_with_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = run(capsys, "explain", "loss.py:chatty", "--data", "data.csv")
    assert "hello from the loss" not in out
    assert err == ""
    assert "what it printed is left out" in out


def test_progress_is_shown_where_somebody_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = watched(monkeypatch)
    assert main(["explain", "loss.py:mse", "--data", "data.csv"]) == 0
    assert "deriving the exact form" in terminal.getvalue()
    assert capsys.readouterr().out.startswith("✓ mse is safe: ")


def test_every_kind_of_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    pred, real = torch.randn(50), torch.randn(50)
    np.savez(folder / "d.npz", pred=pred.numpy().astype("float64"), real=real.numpy())
    torch.save({"pred": pred, "real": real}, folder / "d.pt")
    torch.save((pred, real), folder / "tuple.pt")
    files = ["d.npz", "d.pt", "tuple.pt"]
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        parquet = None
    if parquet is not None:
        parquet.write_table(arrow.table({"pred": pred.tolist(), "real": real.tolist()}), folder / "d.parquet")
        files.append("d.parquet")
    found = []
    for file in files:
        status, out, _ = run(capsys, "explain", "loss.py:rmse", "--data", file, "--json")
        assert status == 1
        found.append(json.loads(out)["curve"]["exact"])
    assert found == pytest.approx([found[0]] * len(found), rel=1e-6)


def test_columns_side_by_side(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    header = ",".join([*(f"logits_{index}" for index in range(3)), "Labels"])
    rows = [",".join([*(f"{value:.3f}" for value in torch.randn(3)), str(index % 3)]) for index in range(40)]
    (folder / "wide.csv").write_text("\n".join([header, *rows]))
    status, out, _ = run(capsys, "explain", "loss.py:cross_entropy", "--data", "wide.csv", "--json")
    assert status == 0
    shapes = [given["what"] for given in json.loads(out)["inputs"]]
    assert shapes == ["float64 (40, 3)", "int64 (40,)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pred,real", "has no rows below its header"),
        ("pred,real\n1,2\n3", "line 3: 1 values for 2 columns"),
        ("pred,real\n1,cat\n2,dog", "the column of real holds text ('cat' in row 1, line 2), not numbers"),
    ],
)
def test_tables_that_are_broken(capsys: pytest.CaptureFixture[str], folder: Path, text: str, message: str) -> None:
    (folder / "broken.csv").write_text(text)
    assert message in fails(capsys, "explain", "loss.py:mse", "--data", "broken.csv")


def test_a_size_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "explain", "loss.py:rmse", "--data", "data.csv", "--mark", "7")
    assert "too low at batch size 7 (" in " ".join(out.split())
    assert "▸7 " in out
    _, out, _ = run(capsys, "explain", "loss.py:rmse", "--data", "data.csv", "--mark", "7", "--json")
    assert json.loads(out)["marked"] == 7
    assert 7 in [reading["size"] for reading in json.loads(out)["curve"]["readings"]]
    assert "--mark" in fails(capsys, "explain", "loss.py:rmse", "--mark", "0")


def test_reports_as_files(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    pytest.importorskip("matplotlib")
    files = ["--html", "report.html", "--png", "report.png"]
    status, out, err = run(capsys, "explain", "loss.py:rmse", "--data", "data.csv", "--mark", "16", *files)
    assert status == 1
    assert out.startswith("✗ rmse depends on the batch size: ")
    assert err == "wrote report.html\nwrote report.png\n"
    assert "At your batch size, 16," in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["explain", "simulate"])
def test_files_that_cannot_be_written_are_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("batchproof.ground.target.resolve", lambda typed: pytest.fail("the work has begun"))
    target = "loss.py:rmse"
    assert "there is no directory nowhere" in fails(capsys, command, target, "--html", "nowhere/report.html")
    assert "cannot write .: it is a directory" in fails(capsys, command, target, "--png", ".")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'pip install "batchproof[plot]"' in fails(capsys, command, target, "--png", "report.png")


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-h", "--help"):
        status, out, _ = run(capsys, flag)
        assert status == 0
        assert "explain" in out
        for command in ("explain", "simulate"):
            assert command in out
            assert "Examples:" in run(capsys, command, flag)[1]
    assert run(capsys, "--version")[1] == f"batchproof {batchproof.__version__}\n"
    assert run(capsys)[0] == 2
    assert fails(capsys, "explian").startswith("No such command 'explian'.")


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_help_needs_no_torch() -> None:
    for args in (["--help"], ["simulate", "--help"], ["explain", "--help"], ["--version"]):
        done = in_a_process(f"import sys; from batchproof.cli import main; main({args}); print('torch' in sys.modules)")
        assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_a_missing_torch_is_one_line_with_the_way_to_install_it() -> None:
    done = in_a_process(
        "import sys; sys.modules['torch'] = None\n"
        "from batchproof.cli import main; sys.exit(main(['explain', 'json:dumps']))"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "pip install torch" in done.stderr


def test_the_row_that_makes_it_nan_is_named(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "nan.csv").write_text("pred,real\n" + "1.5,2\n" * 40 + "nan,1\n")
    where = "pred is NaN in row 41, line 42 of nan.csv: take such rows out first"
    status, out, _ = run(capsys, "explain", "loss.py:mse", "--data", "nan.csv", "--json")
    assert status == 2
    assert json.loads(out)["notes"][0] == where
    for args in (["loss.py:mse"], []):
        assert where in fails(capsys, "simulate", *args, "--data", "nan.csv")


def test_help_by_its_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("explain", "lint", "rule"):
        assert run(capsys, "help", verb) == run(capsys, verb, "--help")
    assert run(capsys, "help") == run(capsys, "--help")
    assert fails(capsys, "help", "explian") == "No such command 'explian'. Did you mean 'explain'?"
    assert run(capsys, "-V") == run(capsys, "--version")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["explain"], "Missing argument 'TARGET'. Try 'batchproof explain --help'"),
        (["compare", "train.py"], "Missing option '--batch-size' / '--batch-sizes'. Try 'batchproof compare --help'"),
        (["explain", "a", "b"], "Got unexpected extra argument (b). Try 'batchproof explain --help'"),
        (["nothing"], "No such command 'nothing'. Try 'batchproof --help'"),
        (["explain", "a", "--mark", "x"], "Invalid value for '--mark': 'x' is not a valid integer range."),
    ],
)
def test_an_error_of_typing_says_where_to_look(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert fails(capsys, *args) == message


def test_a_file_with_null_bytes_has_no_line(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "binary.py").write_bytes(b"x = 1\0")
    for args in (["explain", "binary.py:x"], ["run", "binary.py"], ["check", "binary.py"]):
        assert "None" not in fails(capsys, *args)
