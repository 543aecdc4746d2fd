"""What compare refuses, each in one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.commands import inside, refusal
from tests.comparisons import shared_slots

from batchproof.scripts.compare import blank, scheduler

NOTHING_ADDED = """
import torch
from torch.utils.data import DataLoader, TensorDataset
for batch, in DataLoader(TensorDataset(torch.ones(8, 1)), batch_size=2):
    print(batch.sum())
"""
TOTAL = """
import sys
total = 0.0
for batch in [[1.0, 2.0], [3.0, 4.0]]:
    total += sum(batch) / len(batch)
print(total / 2)
"""
LOADED = """
import torch
from torch.utils.data import DataLoader, TensorDataset
loader = DataLoader(TensorDataset(torch.arange(10.0)), batch_size=2)
total = 0.0
for batch, in loader:
    total += batch.mean().item()
mean_loss = total / len(loader)
print(mean_loss)
"""
SIZES = ("--batch-size", "2,4", "--no-controls", "--jobs", "1", "--no-cache")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(scheduler, "slots", shared_slots)
    files = {"nothing.py": NOTHING_ADDED, "total.py": TOTAL, "loaded.py": LOADED, "notes.txt": "", "broken.py": "def ("}
    with inside(tmp_path, monkeypatch, files, 100) as path:
        yield path


@pytest.mark.parametrize(
    "sizes",
    ["", ",", "16,", "16,big", "16,0", "16,-4", "16.5,32", "16;32", "٣,٤", "16,,32", "99" * 400 + ",x"],
)
def test_batch_sizes_that_are_none(capsys: pytest.CaptureFixture[str], sizes: str) -> None:
    said = refusal(capsys, "compare", "loaded.py", "--batch-size", sizes)
    assert said.startswith("--batch-size takes whole numbers from 1 on, as in 16,64,128, not ")
    assert "\n" not in said


@pytest.mark.parametrize("sizes", ["16", "16,16"])
def test_one_batch_size(capsys: pytest.CaptureFixture[str], sizes: str) -> None:
    assert refusal(capsys, "compare", "loaded.py", "--batch-size", sizes) == (
        "one batch size cannot be compared: give at least two, as in --batch-size 16,64,128"
    )


def test_no_batch_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--batch-size" in refusal(capsys, "compare", "loaded.py")


@pytest.mark.parametrize("blank_", ["{batchsize}", "{batch-size}", "{BATCH_SIZE}", "{batch_sizes}", "{bs}"])
@pytest.mark.parametrize("verb", ["compare", "check"])
def test_a_blank_that_is_misspelt(capsys: pytest.CaptureFixture[str], verb: str, blank_: str) -> None:
    found = refusal(capsys, verb, "loaded.py", "--batch-size", "2,4", "--", "--bs", f"x{blank_}")
    assert found == f"{blank_} is not filled in; did you mean {{batch_size}}?"


def test_other_names_in_braces_are_the_scripts_own() -> None:
    blank.refuse_misspelt(["--name", "{epoch}-{size}", "{batch_size}", "{}", "{'batch_size': {batch_size}}"])


def test_no_such_script(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert refusal(capsys, "compare", "loadde.py", *SIZES) == "there is no file loadde.py; did you mean loaded.py?"
    assert "is a directory without a __main__.py" in refusal(capsys, "compare", str(folder), *SIZES)
    assert "there is no module nowhere" in refusal(capsys, "compare", "-m", "nowhere", *SIZES)


@pytest.mark.parametrize(
    ("option", "value"), [("--seeds", "0"), ("--jobs", "0"), ("--timeout", "0"), ("--timeout", "-3"), ("--epoch", "0")]
)
def test_numbers_that_make_no_sense(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    assert option in refusal(capsys, "compare", "loaded.py", "--batch-size", "2,4", option, value)


def test_a_report_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "compare", "loaded.py", *SIZES, "--html", "nowhere/report.html")
    assert said == "cannot write nowhere/report.html: there is no directory nowhere"


def test_no_loader_and_no_blank(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "compare", "total.py", *SIZES) == (
        "total.py builds no DataLoader whose batch size could be set: put {batch_size} where its arguments say the "
        "batch size, as in batchproof compare total.py --batch-size 16,64 -- --batch-size {batch_size}"
    )


def test_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "compare", "nothing.py", *SIZES)
    assert said.startswith("nothing.py reports no number that batchproof recognises: looked for totals or lists that")
    assert said.endswith("and found none; name the variable that holds the number, as in --report train_loss")


def test_no_number_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "compare", "loaded.py", *SIZES, "--report", "mean_los") == (
        "loaded.py gives no variable and no key of a log 'mean_los' a number; it reports mean_loss"
    )


def test_no_such_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "compare", "loaded.py", *SIZES, "--epoch", "3") == "--epoch 3: loaded.py has one epoch"


def test_a_script_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "broken.py:1" in refusal(capsys, "compare", "broken.py", *SIZES)
    assert "notes.txt" in refusal(capsys, "compare", "notes.txt", *SIZES)
