"""Baselines: what is known does not fail, wherever in its file it has moved to, and what is new does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import command as run
from commands import inside, refusal

LOOP = """\
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item()
    return total / len(loader)
"""
TRAIN = f"""\
import torch.nn.functional as F


def evaluate(model, loader):
{LOOP}"""
KNOWN = ("lint", "--baseline", "known.json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with inside(tmp_path, monkeypatch, {"train.py": TRAIN}, columns=80) as folder:
        status, out, err = run(capsys, "lint", "--write-baseline", "known.json")
        assert (status, out, err) == (0, "", "wrote known.json: 1 finding\n")
        yield folder


def entries(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["findings"]
    return found


def test_what_is_known_does_not_fail(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert entries(folder / "known.json") == [
        {
            "path": "train.py",
            "code": "BP201",
            "function": "evaluate",
            "statement": "total += F.mse_loss(model(x), y).item()",
            "count": 1,
        }
    ]
    assert run(capsys, "lint")[0] == 1
    assert run(capsys, *KNOWN) == (0, "Found nothing new in 1 file (1 in the baseline)\n", "")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "# a line above\n\n" + text,
        lambda text: text.replace(
            "F.mse_loss(model(x), y)", "F.mse_loss(\n            model(x),\n            y,\n        )"
        ),
        lambda text: text.replace(".item()", ".item()  # of this batch"),
        lambda text: text.replace("def evaluate", "def other():\n    return 'x'\n\n\ndef evaluate"),
    ],
)
def test_lines_move_and_are_laid_out_anew(capsys: pytest.CaptureFixture[str], folder: Path, edit: Any) -> None:
    (folder / "train.py").write_text(edit(TRAIN))
    assert run(capsys, *KNOWN)[0] == 0


@pytest.mark.parametrize(
    "more",
    [
        f"\n\ndef test(model, loader):\n{LOOP}",  # the same code in another function
        f"\n\nclass Trainer:\n    def evaluate(self, model, loader):\n{LOOP.replace('    ', '        ')}",
    ],
)
def test_what_is_new_fails(capsys: pytest.CaptureFixture[str], folder: Path, more: str) -> None:
    (folder / "train.py").write_text(TRAIN + more)
    status, out, _ = run(capsys, *KNOWN)
    assert status == 1
    assert out.endswith("Found 1 number that depends on the batch size (1 fixable with --fix, 1 in the baseline)\n")
    assert len(run(capsys, *KNOWN, "--format", "concise", "-q")[1].splitlines()) == 1
    assert len(run(capsys, *KNOWN, "--format", "github")[1].splitlines()) == 1
    assert run(capsys, *KNOWN, "--statistics", "-q")[1].split()[:2] == ["1", "BP201"]


def test_another_one_that_is_alike_is_one_too_many(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    again = LOOP.replace("return total / len(loader)", "print(total / len(loader))") + LOOP
    (folder / "train.py").write_text(TRAIN.replace(LOOP, again))
    assert run(capsys, *KNOWN)[0] == 1
    run(capsys, "lint", "--write-baseline", "known.json")
    assert [entry["count"] for entry in entries(folder / "known.json")] == [2]
    assert run(capsys, *KNOWN)[0] == 0


def test_what_is_gone_is_said_in_one_line_that_can_be_pasted(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "train.py").write_text(TRAIN.replace("F.mse_loss(model(x), y).item()", "1"))
    status, out, err = run(capsys, *KNOWN)
    assert (status, out) == (0, "Found nothing in 1 file\n")
    assert err == "1 finding is gone that known.json has: --write-baseline known.json drops it\n"
    assert run(capsys, *KNOWN, "-q") == (0, "", "")
    assert len(json.loads(run(capsys, *KNOWN, "--json")[1])["stale"]) == 1
    assert run(capsys, "lint", *err.split(": ")[1].split()[:2])[0] == 0
    assert entries(folder / "known.json") == []


def test_what_was_not_looked_at_is_not_gone(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "other.py").write_text("x = 1\n")
    assert run(capsys, *KNOWN, "other.py")[2] == ""
    assert run(capsys, *KNOWN, "--ignore", "BP201")[2] == ""
    run(capsys, "lint", "other.py", "--write-baseline", "known.json")
    assert len(entries(folder / "known.json")) == 1
    (folder / "train.py").write_text("def f(:")
    assert "is gone" not in run(capsys, *KNOWN)[2]
    (folder / "train.py").unlink()
    assert "1 finding is gone" in run(capsys, *KNOWN, "other.py")[2]


def test_the_settings_name_one(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text('[tool.batchproof.lint]\nbaseline = "known.json"\n')
    assert run(capsys, "lint")[0] == 0
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    assert run(capsys, "lint", "../train.py")[0] == 0
    monkeypatch.chdir(folder)
    (folder / "none.json").write_text('{"schema": "batchproof/lint-baseline/1", "findings": []}')
    assert run(capsys, "lint", "--baseline", "none.json")[0] == 1  # the option has the last word
    assert run(capsys, "lint", "--write-baseline", "new.json")[2] == "wrote new.json: 1 finding\n"
    (folder / "pyproject.toml").write_text("[tool.batchproof.lint]\nbaseline = 3\n")
    assert 'baseline takes a file, as in "lint-baseline.json", not 3' in refusal(capsys, "lint")


def test_data_marks_what_is_known(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "train.py").write_text(f"{TRAIN}\n\ndef test(model, loader):\n{LOOP}")
    found = json.loads(run(capsys, *KNOWN, "--json")[1])["findings"]
    assert [(finding["function"], finding["is_known"]) for finding in found] == [("evaluate", True), ("test", False)]
    assert [finding["is_known"] for finding in json.loads(run(capsys, "lint", "--json")[1])["findings"]] == [None, None]
    results = json.loads(run(capsys, *KNOWN, "--format", "sarif")[1])["runs"][0]["results"]
    assert [result["baselineState"] for result in results] == ["unchanged", "new"]
    assert "baselineState" not in run(capsys, "lint", "--format", "sarif")[1]


def test_known_findings_can_be_fixed(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, err = run(capsys, *KNOWN, "--fix")
    assert (status, out) == (0, "Found 1 number that depends on the batch size (1 fixed, 0 left)\n")
    assert "1 finding is gone" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read (No such file or directory); batchproof lint --write-baseline bad.json writes it"),
        ("nonsense", "bad.json is no baseline of lint: it has no schema 'batchproof/lint-baseline/1'"),
        ('{"schema": "batchproof/lint-baseline/2"}', "its schema is 'batchproof/lint-baseline/2', not "),
        ('{"schema": "batchproof/lint-baseline/1", "findings": [{"x": 1}]}', "its findings are not understood"),
    ],
)
def test_what_is_no_baseline(capsys: pytest.CaptureFixture[str], folder: Path, text: str | None, message: str) -> None:
    if text is not None:
        (folder / "bad.json").write_text(text)
        assert "is no baseline" in refusal(capsys, "lint", "--write-baseline", "bad.json")
    assert message in refusal(capsys, "lint", "--baseline", "bad.json")


def test_a_file_that_cannot_be_read_still_fails(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "broken.py").write_text("def f(:")
    assert run(capsys, "lint", "--write-baseline", "known.json")[0] == 1
    assert run(capsys, *KNOWN)[0] == 1
    assert "give one of them" in refusal(capsys, "lint", "--diff", "--write-baseline", "known.json")
