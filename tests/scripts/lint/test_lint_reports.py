"""How lint's findings look: in a terminal of any width, in colour, as JSON, for GitHub, and as SARIF."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from batchproof.scripts.lint.finding import Linted
from batchproof.scripts.lint.forms import data
from batchproof.scripts.lint.forms import text as lint_text
from batchproof.scripts.lint.one_file import lint
from batchproof.scripts.lint.rules import RULES
from commands import command as run
from commands import inside

SCRIPT = """\
import torch
import torch.nn.functional as F


def rmse(pred, y):
    return torch.sqrt(F.mse_loss(pred, y))


def evaluate(model, loader):
    total, loss_sum = 0.0, 0.0
    for x, y in loader:
        total += rmse(model(x), y).item()
        loss_sum += F.mse_loss(model(x), y).item()
    return total / len(loader), loss_sum / len(loader)
"""

REPORT = """\
train.py:12:9: BP101 error
   6 |     return torch.sqrt(F.mse_loss(pred, y))
     |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
     |            the square root is taken of each batch
  12 |         total += rmse(model(x), y).item()
     |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  14 |     return total / len(loader), loss_sum / len(loader)
     |            ^^^^^^^^^^^^^^^^^^^ averaged here
  `total` averages `rmse(model(x), y)` over batches, and that depends on the
  batch size: the square root is taken of each batch; it tends to be too low
  → one root after the loop: `metric = batchproof.exact(rmse)` above it,
    `metric(model(x), y)` in it, `metric.compute()` below it

train.py:13:9: BP201 [*] note
  13 |         loss_sum += F.mse_loss(model(x), y).item()
     |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  14 |     return total / len(loader), loss_sum / len(loader)
     |                                 ^^^^^^^^^^^^^^^^^^^^^^
     |                                 divided by the number of batches
  `loss_sum` gives every batch the same weight: a short last batch counts as
  much as a full one
  → weight each batch by its number of samples, and divide by their sum

Found 2 numbers that depend on the batch size (1 fixable with --fix)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    with inside(tmp_path, monkeypatch, {"train.py": SCRIPT}, columns=80) as folder:
        yield folder


def linted(text: str = SCRIPT, path: str = "train.py") -> Linted:
    return lint(path, text.encode())


def test_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "lint", "train.py")[1] == REPORT


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(width: int) -> None:
    long = SCRIPT.replace("rmse(model(x), y)", "rmse(model(x), y + " + " + ".join(["a_long_name"] * 20) + ")")
    deep = SCRIPT.replace("\n", "\n" + " " * 70).strip()
    for text in (SCRIPT, long, f"if True:\n{' ' * 70}{deep}"):
        found = linted(text)
        assert found.findings
        lines = [click.unstyle(line) for line in lint_text.full([found], width)]
        assert max(map(len, lines)) <= width
        assert [line for line in lines if line != line.rstrip()] == []


def test_tabs_do_not_move_the_marks() -> None:
    lines = [click.unstyle(line) for line in lint_text.full([linted(SCRIPT.replace("    ", "\t"))], 100)]
    index = next(index for index, line in enumerate(lines) if "total += rmse" in line)
    assert lines[index].index("total") == lines[index + 1].index("^")


def test_colours_only_for_those_who_see_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(capsys, "lint", "train.py")[1]
    assert "\x1b" not in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = run(capsys, "lint", "train.py")[1]
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain
    assert coloured != plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(capsys, "lint", "train.py")[1] == plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert run(capsys, "lint", "train.py")[1] == plain


def test_blue_is_hard_to_read_on_black() -> None:
    assert "\x1b[34m" not in "".join(lint_text.full([linted()], 80))


@pytest.mark.parametrize("form", ["text", "concise", "json", "github", "sarif"])
def test_what_goes_to_a_file_is_what_is_printed(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FORCE_COLOR", "1")
    status, out, err = run(capsys, "lint", "train.py", "--format", form, "--output", "report")
    assert (status, out, err) == (1, "", "wrote report\n")
    assert (folder / "report").read_text() == click.unstyle(run(capsys, "lint", "train.py", "--format", form)[1])


def test_what_could_not_be_read_is_not_counted_as_read(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "train.py").write_text("def f(:")
    assert run(capsys, "lint", "train.py")[1] == "Found nothing in 0 files (1 could not be read)\n"


def test_what_cannot_be_written_is_not_called_fixable(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    book = {"cells": [{"cell_type": "code", "source": SCRIPT}]}
    (folder / "train.ipynb").write_text(json.dumps(book))
    assert "1 fixable" in run(capsys, "lint", "train.ipynb")[1]
    (folder / "train.ipynb").write_text(json.dumps(book, separators=(",", ":")))
    out = run(capsys, "lint", "train.ipynb")[1]
    assert "BP201" in out and "[*]" not in out and "fixable" not in out
    assert "its formatting cannot be kept" in run(capsys, "lint", "--fix", "train.ipynb")[2]


def test_concise(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "lint", "--format", "concise", "train.py")[1].splitlines()
    assert [line.split(" `")[0] for line in lines[:2]] == ["train.py:12:9: BP101", "train.py:13:9: BP201 [*]"]
    assert len(lines) == 3
    assert len(run(capsys, "lint", "--format", "concise", "-q", "train.py")[1].splitlines()) == 2


def test_statistics(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "lint", "--statistics", "-q", "train.py")[1].splitlines()
    assert lines == [
        "    1  BP101  error    nonlinear-metric-averaged",
        "    1  BP201  note     mean-of-batch-means (1 fixable)",
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[dict[str, Any]] = json.loads(run(capsys, "lint", "--format", "json", "train.py")[1])["findings"]
    root, mean = found
    assert set(root) == {
        "path", "line", "column", "end_line", "end_column", "cell", "code", "name", "severity", "message", "remedy",
        "related", "fix", "function", "statement", "is_known",
    }  # fmt: skip
    assert (root["path"], root["line"], root["column"], root["end_column"]) == ("train.py", 12, 9, 42)
    assert (root["name"], root["severity"], root["cell"], root["fix"]) == (
        "nonlinear-metric-averaged", "error", None, None,
    )  # fmt: skip
    assert [related["line"] for related in root["related"]] == [6, 14]
    assert {edit["line"] for edit in mean["fix"]["edits"]} == {10, 13, 14}


def test_json_of_nothing(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "train.py").write_text("")
    assert json.loads(run(capsys, "lint", "--format", "json", "train.py")[1]) == {
        "schema": "batchproof/lint/1", "findings": [], "problems": [], "stale": [],
    }  # fmt: skip


def test_github() -> None:
    first, second = data.github([linted(path="a,b:c.py")]).split("\n")
    place = "file=a%2Cb%3Ac.py,line=12,endLine=12,col=9,endColumn=42,title=BP101 nonlinear-metric-averaged"
    assert first.startswith(f"::error {place}::`total` averages")
    assert second.startswith("::notice ")
    broken = data.github([linted("x = 1\ndef f(:")])
    assert broken == "::error file=train.py,line=2,title=batchproof::invalid syntax"
    assert data._data("100%\nsure") == "100%25%0Asure"


def test_sarif() -> None:
    log = json.loads(data.sarif([linted(), linted("def f(:", "broken.py")]))
    assert log["version"] == "2.1.0"
    (one,) = log["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.code for rule in RULES]
    assert all(rule["help"]["markdown"] and rule["shortDescription"]["text"] for rule in rules)
    assert {rule["defaultConfiguration"]["level"] for rule in rules} == {"error", "warning", "note"}
    root, mean = one["results"]
    assert (root["ruleId"], root["level"], rules[root["ruleIndex"]]["id"]) == ("BP101", "error", "BP101")
    place = root["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "train.py"
    assert place["region"] == {"startLine": 12, "startColumn": 9, "endLine": 12, "endColumn": 42}
    assert [related["message"]["text"] for related in root["relatedLocations"]][-1] == "averaged here"
    (change,) = mean["fixes"][0]["artifactChanges"]
    assert len(change["replacements"]) == 4
    notification = one["invocations"][0]["toolExecutionNotifications"][0]
    assert notification["message"]["text"] == "invalid syntax"


def test_sarif_of_paths_that_are_no_addresses() -> None:
    assert data._uri("my scripts/trän.py") == "my%20scripts/tr%C3%A4n.py"
    assert data._uri("/data/train.py") == "file:///data/train.py"


def test_a_notebooks_findings_name_the_cell(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    cells = [{"cell_type": "markdown", "source": "# hi"}, {"cell_type": "code", "source": SCRIPT}]
    (folder / "train.ipynb").write_text(json.dumps({"cells": cells}))
    assert run(capsys, "lint", "train.ipynb")[1].startswith("train.ipynb:cell 2:12:9: BP101 error")
    assert (
        "line=1,title=BP101 nonlinear-metric-averaged::cell 2, line 12: "
        in run(capsys, "lint", "--format", "github", "train.ipynb")[1]
    )
    one = json.loads(run(capsys, "lint", "--format", "sarif", "train.ipynb")[1])["runs"][0]["results"][0]
    assert one["message"]["text"].startswith("cell 2, line 12: ")
    assert "region" not in one["locations"][0]["physicalLocation"]


def test_what_would_move_the_cursor_is_one_sign(capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.py").write_text(
        Path("train.py").read_text().replace("total / len(loader)", "total / len(loader)  # \x1b[2J")
    )
    out = run(capsys, "lint", "train.py")[1]
    assert "\x1b" not in out
    assert "�[2J" in out


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_a_name_that_is_no_text_goes_into_sarif_by_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    Path(os.fsdecode(b"bad\xff.py")).write_text(Path("train.py").read_text())
    found = json.loads(run(capsys, "lint", os.fsdecode(b"bad\xff.py"), "--format", "sarif")[1])
    place = found["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "bad%FF.py"
