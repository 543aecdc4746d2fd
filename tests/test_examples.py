"""The examples run, and the stored predictions are what their script makes."""

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, EXAMPLES / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_stored_predictions(tmp_path):
    run("make_diabetes_predictions.py", str(tmp_path / "made.csv"))
    stored, made = rows(EXAMPLES / "diabetes_predictions.csv"), rows(tmp_path / "made.csv")
    assert len(stored) == len(made) == 442
    for column in ("pred", "real"):
        assert [float(row[column]) for row in stored] == pytest.approx([float(row[column]) for row in made], rel=1e-6)


def test_stored_folder_of_predictions(tmp_path):
    run("make_predictions.py", str(tmp_path))
    for stored in sorted((EXAMPLES / "predictions").glob("*.parquet")):
        assert pq.read_table(stored).equals(pq.read_table(tmp_path / stored.name))


def test_question():
    table = [line.split() for line in run("question.py").splitlines()[1:]]
    assert [row[0] for row in table] == ["1", "16", "64", "442"]
    same_model = [float(row[1]) for row in table]
    assert same_model == sorted(same_model)
    assert same_model[0] < 0.9 * same_model[-1]
