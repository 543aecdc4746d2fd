"""What other projects run in their CI: the action, step by step, and the hooks of pre-commit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchproof.cli import batchproof

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "action.yml").read_text(encoding="utf-8")
ACTION = yaml.safe_load(TEXT)
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
AVERAGE = """
def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))

def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += rmse(model(x), y).item()
    return total / len(loader)
"""
SUM = AVERAGE.replace("torch.sqrt(torch.mean((pred - real) ** 2))", "((pred - real) ** 2).sum()").replace(
    "len(loader)", "len(loader.dataset)"
)


def test_inputs_are_those_that_steps_use() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert set(re.findall(r"inputs\.(\w+)", TEXT)) == set(ACTION["inputs"])
    assert set(re.findall(r"steps\.(\w+)\.", TEXT)) <= {step.get("id") for step in STEPS.values()}
    assert all(entry["description"] and isinstance(entry["default"], str) for entry in ACTION["inputs"].values())


def test_a_step_runs_in_bash_or_is_an_action_of_one_version() -> None:
    for step in STEPS.values():
        assert step.get("shell") == "bash" if "run" in step else re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", step["uses"])
        assert "${{" not in step.get("run", ""), "an input would be read as code"


def run_step(name: str, folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a step as the runner does, in a folder, with these inputs and the defaults."""
    given = {key: entry["default"] for key, entry in ACTION["inputs"].items()} | inputs
    step: dict[str, Any] = STEPS[name]
    variables = {key: re.sub(r"\${{ inputs\.(\w+) }}", lambda m: given[m[1]], v) for key, v in step["env"].items()}
    command = folder / "bin" / "batchproof"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m batchproof "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=folder,
        env=os.environ | variables | {"PATH": path, "GITHUB_OUTPUT": str(folder / "outputs")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("source", "options", "status"), [(AVERAGE, "", 1), (AVERAGE, "--ignore BP101", 0), (SUM, "", 0)]
)
def test_the_steps(tmp_path: Path, source: str, options: str, status: int) -> None:
    (tmp_path / "train.py").write_text(source)
    done = run_step("Lint", tmp_path, options=options, output="found.sarif")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs").read_text() == f"status={status}\n"
    results = json.loads((tmp_path / "found.sarif").read_text())["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["BP101"] * status
    assert run_step("Report", tmp_path, options=options).returncode == status
    assert run_step("Report", tmp_path, options=options, fail="false").returncode == 0


def test_what_keeps_lint_from_beginning_fails(tmp_path: Path) -> None:
    done = run_step("Lint", tmp_path, paths="absent.py", fail="false")
    assert done.returncode == 2
    assert "absent.py" in done.stderr


def test_several_paths(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(AVERAGE)
    run_step("Lint", tmp_path, paths="one.py two.py")
    results = json.loads((tmp_path / "batchproof.sarif").read_text())["runs"][0]["results"]
    assert len(results) == 2


def test_hooks_name_a_command_that_there_is() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in hooks] == ["batchproof-lint", "batchproof-lint-fix"]
    for hook in hooks:
        program, verb, *options = hook["entry"].split()
        command = batchproof.commands.get(verb) or batchproof.get_command(None, verb)  # type: ignore[arg-type]
        assert (program, verb) == ("batchproof", "lint")
        assert {option for parameter in command.params for option in parameter.opts} >= set(options)
