"""What reports offer to paste is pasted: commands into a shell, code into Python; and then the number is right."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import batchproof
from batchproof.cli import main
from commands import command, inside
from planted_runs import DATA, FROZEN, RMSE, evaluated

LOSS = """
import torch
def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))
"""
ROOT = LOSS.replace("import torch\n", "")
SCRIPT = "my train.py"  # a shell takes it for two words
WRONG = DATA + FROZEN + ROOT + evaluated("rmse(model(inputs), real)")
NOT_FIXABLE = DATA + FROZEN + evaluated(RMSE)
SOURCE = str(Path(batchproof.__file__).parents[1])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    files = {SCRIPT: WRONG, "loss.py": LOSS, "other.py": NOT_FIXABLE}
    with inside(tmp_path, monkeypatch, files, columns=80) as folder:
        yield folder


def section(out: str, label: str) -> list[str]:
    """The lines of a section of a report."""
    found = re.search(rf"^  {label} +(.*\n(?: {{8,}}.*\n)*)", out, re.MULTILINE)
    return [line.strip() for line in found[1].splitlines()] if found else []


def in_a_shell(line: str) -> int:
    """Run a command line in a real shell, where batchproof is the one under test."""
    function = f'batchproof() {{ {shlex.quote(sys.executable)} -m batchproof "$@"; }}'
    return subprocess.run(["sh", "-c", f"{function}\n{line}"], capture_output=True, check=False, timeout=120).returncode


def is_right(capsys: pytest.CaptureFixture[str]) -> bool:
    return command(capsys, "lint", SCRIPT, "loss.py")[0] == 0


def test_what_check_points_to_and_the_fix_that_each_offers(capsys: pytest.CaptureFixture[str]) -> None:
    checked = command(capsys, "check", SCRIPT)[1]
    more = [shlex.split(line)[1:] for line in section(checked, "More")]
    assert [words[0] for words in more] == ["lint", "run", "compare"]
    lint, run, compare = (command(capsys, *words) for words in more)
    assert [lint[0], run[0], compare[0]] == [1, 0, 1]  # what run gives is the script's own
    again = re.search(r"^  (batchproof report.*) shows this again", run[2], re.MULTILINE)
    assert again is not None
    assert main(shlex.split(again[1])[1:]) == 1
    [fix] = {fix for text in (checked, run[2], compare[1]) for fix in section(text, "Fix") or ["none"]}
    assert fix.startswith("batchproof lint --fix ")
    assert in_a_shell(fix) == 0
    assert is_right(capsys)


def test_what_cannot_be_fixed_offers_nothing_to_paste(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("check", "run"):
        _, out, err = command(capsys, verb, "other.py")
        assert "too low" in out + err
        assert section(out + err, "Fix") == []


def test_the_fix_of_simulate(capsys: pytest.CaptureFixture[str]) -> None:
    out = command(capsys, "simulate", "loss.py:rmse", "--batch-size", "1,16", "--batches", "100")[1]
    made, on_each, at_the_end = section(out, "Fix")
    scope: dict[str, Any] = {"batchproof": batchproof}
    exec(LOSS, scope)
    exec(made, scope)
    whole = torch.arange(100.0), torch.zeros(100)
    for scope["pred"], scope["real"] in zip(whole[0].split(16), whole[1].split(16)):
        assert eval(on_each, scope) == scope["rmse"](scope["pred"], scope["real"])
    torch.testing.assert_close(eval(at_the_end, scope), scope["rmse"](*whole))


def test_simulate_without_a_target_has_no_function_to_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert section(command(capsys, "simulate", "--batch-size", "1,16", "--batches", "100")[1], "Fix") == []


def test_the_code_in_a_finding_of_lint(capsys: pytest.CaptureFixture[str]) -> None:
    out = command(capsys, "lint", SCRIPT)[1]
    arrow = " ".join(out.partition("→")[2].partition("\n\n")[0].split())
    above, inside_it, below = re.findall(r"`(.*?)`", arrow)
    scope: dict[str, Any] = {"batchproof": batchproof}
    exec(LOSS, scope)
    exec(above, scope)
    scope |= {"model": lambda inputs: inputs, "inputs": torch.arange(4.0), "real": torch.zeros(4)}
    exec(inside_it, scope)
    assert eval(below, scope) == scope["rmse"](torch.arange(4.0), torch.zeros(4))
    assert "1 fixable with --fix" in out


@pytest.mark.parametrize("target", [["simulate", "nowhere.py:x"], ["explain"], ["compare", "x.py"]])
def test_where_an_error_of_typing_points_to(target: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = command(capsys, *target)
    for line in re.findall(r"Try '(batchproof .*)'", err):
        assert main(shlex.split(line)[1:]) == 0
