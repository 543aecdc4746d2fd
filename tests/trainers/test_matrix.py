"""The matrix of trainers: what it prints, and that the page says what the pinned packages do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

for package in ("transformers", "accelerate", "lightning", "trl"):
    pytest.importorskip(package)

from batchproof import BatchproofError  # noqa: E402
from batchproof.trainers import __main__ as command  # noqa: E402
from batchproof.trainers import matrix  # noqa: E402
from batchproof.trainers.cases import CASES, Case, named  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "trainers.md"
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def without_torch(page: str) -> str:
    """Whatever torch is there: the others are pinned."""
    return re.sub(r"\| torch [\d.]+:", "| torch:", page)


def test_the_page_says_what_the_trainers_do() -> None:
    written = PAGE.read_text(encoding="utf-8")
    done = list(matrix.rows(CASES))
    assert not [cell.error for row in done for cell in row.cells if cell.error]
    assert without_torch(matrix.page(done)) == without_torch(written), f"python -m batchproof.trainers --page {PAGE}"


def test_one_row_with_its_reports(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["grpo, bnpo", "-v", "--page", str(tmp_path / "page.md")]) == 0
    said = capsys.readouterr().out
    (row,) = re.findall(r"^  GRPO, bnpo +(.*)$", said, re.MULTILINE)
    assert row.split() == ["✓", "✓", "mean-of-means", "–"]
    assert "completion tokens" in said and said.count("GRPOTrainer of trl") == 1
    assert "| ✓ | ✓ | `mean-of-means` | – |" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_several_causes_are_counted_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["BertForTokenClassification"])
    (row,) = re.findall(r"^  Trainer, BertForToken.*$", capsys.readouterr().out, re.MULTILINE)
    assert row.endswith("missing-division    missing-division    missing-division +1  missing-division")


def test_no_such_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["nobody"])
    assert "no trainer is called 'nobody': torch: a plain loop" in capsys.readouterr().err


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(matrix, "_version", lambda _: "")
    assert command.main(["sft"]) == 0
    assert re.search(r"^  SFT +not installed$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("error", [BatchproofError("too few samples"), ValueError("of its own")])
def test_a_trainer_that_does_not_run(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(command, "named", lambda _: [Case("torch", "mine", fails)])
    assert command.main([]) == 1
    said = capsys.readouterr().out
    assert "failed" in said and str(error) in said


def test_names() -> None:
    assert {case.package for case in named("trl: ")} == {"trl"}
    assert len({(case.package, case.name) for case in CASES}) == len(CASES)
