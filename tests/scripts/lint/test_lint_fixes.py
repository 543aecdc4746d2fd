"""``--fix`` and ``--diff``: what comes out is right to the letter, runs, and no longer depends on the batches.

A new case is two new files in cases/fixes: one with ``evaluate(model, loader)``, and what becomes of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from batchproof.scripts.lint.one_file import lint, repaired
from commands import command as run
from commands import inside

FOLDER = Path(__file__).parent / "cases" / "fixes"
CASES = sorted(path for path in FOLDER.glob("*.py") if not path.name.endswith(".fixed.py"))
SUM = (FOLDER / "sum.py").read_text()
FIXED = (FOLDER / "sum.fixed.py").read_text()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with inside(tmp_path, monkeypatch, {"train.py": SUM}, columns=80) as folder:
        yield folder


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case(case: Path) -> None:
    after, linted = repaired("train.py", case.read_bytes())
    assert after.decode() == case.with_suffix(".fixed.py").read_text()
    assert linted.findings == ()
    assert linted.fixed > 0
    again, linted = repaired("train.py", after)
    assert (again, linted.fixed) == (after, 0)


def evaluated(script: Path, batch_size: int) -> tuple[float, list[float]]:
    """What the script returns and prints with batches of this size; of ten samples, so that the last may be short."""
    printed: list[float] = []
    namespace: dict[str, Any] = {"print": lambda *texts: printed.append(float(str(texts[-1]).split()[-1]))}
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    data = TensorDataset(torch.randn(10, 2), 3 * torch.randn(10, 1))
    exec(compile(script.read_text(), str(script), "exec"), namespace)
    return float(namespace["evaluate"](model, DataLoader(data, batch_size))), printed


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_number_no_longer_depends_on_the_batch_size(case: Path) -> None:
    fixed = [evaluated(case.with_suffix(".fixed.py"), size) for size in (10, 4, 3, 1)]
    before = [evaluated(case, size) for size in (10, 4, 3, 1)]
    for value, printed in fixed[1:]:
        assert value == pytest.approx(fixed[0][0], rel=1e-5)
        assert printed == pytest.approx(fixed[0][1], rel=1e-5)
    assert abs(before[1][0] - before[0][0]) > 1e-3 * abs(before[0][0])


BEFORE = """\
import torch.nn.functional as F
from torch import nn

def evaluate(model, loader):
    {start}
    for x, y in loader:
        {add}
    {end}
"""


def fixable(**parts: str) -> bool:
    start, add, end = "total = 0.0", "total += F.mse_loss(model(x), y).item()", "return total / len(loader)"
    text = BEFORE.format(**{"start": start, "add": add, "end": end, **parts})
    found = lint("train.py", text.encode()).findings
    assert found, text
    return any(finding.fix is not None for finding in found)


def test_what_is_fixed_at_all() -> None:
    assert fixable()
    assert fixable(start="total, other = 0, 1")
    assert fixable(add="total += F.mse_loss(model(x), y.float()).item()")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"start": "global total; total = 0.0"}, id="another function may read it"),
        pytest.param({"start": "total = 0.0; seen = []"}, id="no line of its own"),
        pytest.param({"start": "total = base()"}, id="does not begin at nothing"),
        pytest.param({"add": "total += F.mse_loss(model(x), y).item(); n = 1"}, id="another statement on the line"),
        pytest.param({"add": "total += loss_of(model(x), y).item()"}, id="a loss that is not known"),
        pytest.param({"add": "total += F.mse_loss(model(x['a']), x['b']).item()"}, id="a dict has another length"),
        pytest.param(
            {"add": "loss = F.mse_loss(model(x), y); y = y[:1]\n        total += loss.item()"}, id="y changes"
        ),
        pytest.param({"end": "print(total)\n    return total / len(loader)"}, id="the sum is used as well"),
        pytest.param({"end": "return total / len(loader), lambda: total"}, id="an inner function reads it"),
    ],
)
def test_what_is_found_but_left_to_the_reader(parts: dict[str, str]) -> None:
    assert not fixable(**parts)


def test_a_count_of_other_batches_is_no_divisor() -> None:
    add = "seen += len(y)\n        {between}\n        total += F.mse_loss(model(x), y).item()"
    for between, counted in ("z = y", "/ seen"), ("if len(x) < 3:\n            continue", "/ n_samples"):
        parts = {
            "start": "total, seen = 0.0, 0",
            "add": add.format(between=between),
            "end": "return total / len(loader)",
        }
        after, linted = repaired("train.py", BEFORE.format(**parts).encode())
        assert linted.fixed == 1
        assert after.decode().rstrip().endswith(counted)


ROOT = """\
import torch

def rmse(pred, y{more}):
    return torch.sqrt(((pred - y) ** 2).mean())

def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        {add}
    return total / len(loader)
"""


@pytest.mark.parametrize(
    ("add", "is_fixed"),
    [
        ("total += rmse(model(x), y).item()", True),
        ("total += rmse(model(x), y, 3).item()", False),
        ("total += rmse(model(x), y=y).item()", False),
        ("total += rmse(model(x), model.target).item()", False),
        ("if len(x) > 1:\n            total += rmse(model(x), y).item()", False),
        (
            "value = rmse(model(x), y)\n        if value > 9:\n            continue\n        total += value.item()",
            False,
        ),
        ("value = rmse(model(x), y)\n        total += value.item()", True),
    ],
)
def test_exact_only_where_every_batch_is_scored_on_nothing_but_itself(add: str, is_fixed: bool) -> None:
    text = ROOT.format(more="" if ", 3" not in add else ", k=1", add=add)
    findings = lint("train.py", text.encode()).findings
    assert [finding.code for finding in findings] == ["BP101"]
    assert (findings[0].fix is not None) == is_fixed


def test_the_command_writes(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "train.py").chmod(0o755)
    status, out, err = run(capsys, "lint", "--fix", "train.py")
    assert (status, out, err) == (0, "Found 1 number that depends on the batch size (1 fixed, 0 left)\n", "")
    assert (folder / "train.py").read_text() == FIXED
    assert (folder / "train.py").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in folder.iterdir()] == ["train.py"]
    assert run(capsys, "lint", "--fix", "train.py")[:2] == (0, "Found nothing in 1 file\n")


def test_what_cannot_be_fixed_is_reported(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "train.py").write_text(SUM + ROOT.format(more="", add="total += rmse(y, model.z)").split("torch\n", 1)[1])
    status, out, _ = run(capsys, "lint", "--fix", "train.py", "--format", "concise")
    assert status == 1
    assert out.splitlines()[-1] == "Found 2 numbers that depend on the batch size (1 fixed, 1 left)"


def test_diff_writes_nothing(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, _ = run(capsys, "lint", "--diff", "train.py")
    assert status == 1
    assert out.startswith("--- train.py\n+++ train.py\n@@ ")
    assert "+        total += F.mse_loss(model(x), y).item() * len(y)  # of this batch\n" in out
    assert (folder / "train.py").read_text() == SUM
    (folder / "train.py").write_text(FIXED)
    assert run(capsys, "lint", "--diff", "train.py")[:2] == (0, "")


def test_only_selected_rules_are_fixed(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run(capsys, "lint", "--fix", "--ignore", "BP201", "train.py")
    assert (folder / "train.py").read_text() == SUM
    (folder / "train.py").write_text(SUM.replace("# of this batch", "# noqa"))
    run(capsys, "lint", "--fix", "train.py")
    assert "n_samples" not in (folder / "train.py").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(SUM.replace("\n", "\r\n"), FIXED.replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(SUM.replace("    ", "\t"), FIXED.replace("    ", "\t"), id="tabs"),
        pytest.param("\ufeff" + SUM, "\ufeff" + FIXED, id="byte order mark"),
        pytest.param(SUM.rstrip("\n"), FIXED.rstrip("\n"), id="no line end at the end"),
        pytest.param(SUM.replace("# the sum", "# Σ of"), FIXED.replace("# the sum", "# Σ of"), id="wide characters"),
        pytest.param(SUM.replace("def ", "\fdef "), FIXED.replace("def ", "\fdef "), id="form feed"),
    ],
)
def test_everything_else_stays(before: str, after: str) -> None:
    assert repaired("train.py", before.encode())[0].decode() == after


def test_the_encoding_stays() -> None:
    head = "# coding: latin-1\n# é\n"
    assert repaired("train.py", (head + SUM).encode("latin-1"))[0] == (head + FIXED).encode("latin-1")


def test_a_notebook(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    def book(script: str) -> str:
        imports, function = script.split("\n\n\n")
        sources = [["%matplotlib inline\n", imports], function.splitlines(keepends=True)]
        cells = [{"cell_type": "code", "outputs": ["ü"], "source": source} for source in sources]
        return json.dumps({"cells": cells, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n"

    (folder / "train.ipynb").write_text(book(SUM), encoding="utf-8")
    status, out, _ = run(capsys, "lint", "--diff", "train.ipynb")
    assert status == 1
    assert out.startswith("--- train.ipynb:cell 2\n")
    assert run(capsys, "lint", "--fix", "train.ipynb")[0] == 0
    assert (folder / "train.ipynb").read_text(encoding="utf-8") == book(FIXED)


def test_a_notebook_whose_formatting_cannot_be_kept(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    cells = [{"cell_type": "code", "source": SUM}]
    text = json.dumps({"cells": cells}).replace('"cells": ', '"cells" : ')
    (folder / "train.ipynb").write_text(text)
    status, _, err = run(capsys, "lint", "--fix", "train.ipynb")
    assert status == 1
    assert err == "error: train.ipynb: its formatting cannot be kept, so it was not repaired\n"
    assert (folder / "train.ipynb").read_text() == text


def test_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SUM.encode())))
    status, out, err = run(capsys, "lint", "--fix", "-")
    assert (status, out) == (0, FIXED)
    assert err == "Found 1 number that depends on the batch size (1 fixed, 0 left)\n"


def test_broken_files_are_left_alone(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "broken.py").write_text("def f(:")
    status, _, err = run(capsys, "lint", "--fix", ".")
    assert status == 1
    assert err == "error: broken.py:1: invalid syntax\n"
    assert (folder / "broken.py").read_text() == "def f(:"
    assert (folder / "train.py").read_text() == FIXED
