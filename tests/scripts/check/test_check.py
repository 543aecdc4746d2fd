"""One answer about a script: the verdict of the measurement that tells the most, and a fix that can be pasted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchproof.cli import main
from batchproof.report.forms import document_of, render
from batchproof.scripts.check.check import check
from batchproof.scripts.check.result import ScriptCheck
from commands import command, inside, refusal
from planted_runs import DATA, FROZEN, MSE, evaluated

ROOT = """
def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))
"""
WRONG = DATA + FROZEN + ROOT + evaluated("rmse(model(inputs), real)")
RIGHT = (
    DATA
    + FROZEN
    + evaluated(MSE)
    .replace("total += ", "total += len(inputs) * ")
    .replace("total / len(loader)", "total / len(loader.dataset)")
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3] / "src"))
    with inside(tmp_path, monkeypatch, {"wrong.py": WRONG, "right.py": RIGHT}, columns=80) as folder:
        yield folder


def test_a_number_that_is_wrong_and_its_fix(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, _ = command(capsys, "check", "wrong.py")
    lines = out.splitlines()
    assert status == 1
    assert lines[0].startswith("✗ test_loss is ") and "too low" in lines[0]
    assert max(map(len, lines)) <= 80
    assert "  lint: 1 problem in the source: BP101 at line " in out
    assert "  More  batchproof lint wrong.py" in lines
    [fix] = [line.removeprefix("  Fix").strip() for line in lines if line.startswith("  Fix")]
    assert main(shlex.split(fix)[1:]) == 0
    capsys.readouterr()
    status, out, _ = command(capsys, "check", "wrong.py")
    assert status == 0, out
    assert out.startswith("✓ nothing is averaged over batches: line ")
    assert "takes its value from exact()" in out
    assert "  lint: nothing found in the source" in out
    assert "looked for" not in out
    assert command(capsys, "check", "wrong.py", "--batch-size", "10,100")[0] == 0


def test_batch_sizes_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = command(capsys, "check", "wrong.py", "--batch-size", "10,100")
    assert status == 1
    assert "none of it real: it comes from averaging over" in " ".join(out.split())
    assert "  run: test_loss is " in out
    assert "--batch-size 10,100" in out


def test_nothing_wrong_and_nothing_measured(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, _ = command(capsys, "check", "right.py", "--json")
    data = json.loads(out)
    assert (status, data["exit_status"], data["findings"], data["comparison"]) == (0, 0, [], None)
    (folder / "other.py").write_text("print(1)\n")
    status, out, _ = command(capsys, "check", "other.py")
    assert status == 2
    assert out.startswith("? nothing measured: no place was found")


EXACT = """
import batchproof as bp
from batchproof import exact as streamed

metric, other = bp.exact(rmse), 3
first = bp.exact(rmse)
second = streamed(rmse)
for inputs, real in DataLoader(data, batch_size=32):
    first(model(inputs), real), second(model(inputs), real)
print(first.compute(), second.compute())
"""


def test_values_of_exact_are_no_averages(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "exact.py").write_text(DATA + FROZEN + ROOT + EXACT)
    status, out, _ = command(capsys, "check", "exact.py")
    assert (status, out.splitlines()[0].split(" ")[0]) == (0, "✓")


@pytest.mark.parametrize(
    "text",
    [
        EXACT.replace(
            "print(first.compute(), second.compute())", "first.compute()"
        ),  # where does the number come from?
        "\ndef made(f): return bp.exact(f)\n"
        + EXACT.replace("= bp.exact(rmse)", "= made(rmse)").replace("second = streamed(rmse)", "second = first"),
        EXACT + "\nraise SystemExit(3)\n",
        EXACT + "\nraise ValueError('lost')\n",
    ],
)
def test_without_an_end_or_a_value_that_is_read_it_could_not_tell(
    capsys: pytest.CaptureFixture[str], folder: Path, text: str
) -> None:
    (folder / "exact.py").write_text(DATA + FROZEN + ROOT + text)
    assert command(capsys, "check", "exact.py")[0] == 2


def test_an_average_beside_an_exact_value_is_still_judged(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "exact.py").write_text(WRONG + EXACT)
    assert command(capsys, "check", "exact.py")[0] == 1


def test_a_script_that_fails_is_still_linted(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "wrong.py").write_text("raise ValueError('no data')\n" + WRONG)
    status, out, _ = command(capsys, "check", "wrong.py", "-q")
    assert status == 1
    assert out.startswith("✗ 1 problem in the source: BP101 at line ")
    assert "ValueError: no data" in " ".join(out.split())


def test_without_torch_the_source_is_linted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchproof.ground.torch_versions.installed", lambda: None)
    found = check("wrong.py")
    assert found.exit_status == 1
    assert "It was not run: batchproof run needs torch 2.6 or later, and this Python has none" in render(found, 120)
    assert document_of(found).headline == found.lint_headline
    assert document_of(check("right.py")).state is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.py"], "there is no file nowhere.py"),
        (["wrong.py", "--batch-size", "16,x"], "--batch-size takes whole numbers from 1 on"),
        (["wrong.py", "--", "--bs", "{batch_size}"], "{batch_size} needs sizes to fill in: --batch-size 16,64,128"),
    ],
)
def test_one_line_for_what_goes_wrong(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    assert message in refusal(capsys, "check", *args)


def test_what_the_script_prints_stays_out_of_the_report(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "right.py").write_text(RIGHT + "print('hello')\n")
    status, out, err = command(capfd, "check", "right.py")
    assert (status, err) == (0, "")
    assert "hello" not in out


def test_the_same_answer_from_data() -> None:
    assert ScriptCheck("train.py").exit_status == 2
    assert document_of(ScriptCheck("train.py")).headline == "could not tell: nothing was measured"
