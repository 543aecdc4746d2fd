"""`batchproof run` and `report` where something is wrong before the script runs: one line, and status 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import command, inside, refusal

FILES = {
    "train.py": "print('hello')\n",
    "broken.py": "x = 1\nfor i in range(3)\n    print(i)\n",
    "late.py": "def f():\n    return 1\nreturn 2\n",
    "notes.ipynb": "{}",
    "other.json": '{"a": 1}',
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with inside(tmp_path, monkeypatch, FILES, columns=100) as folder:
        (folder / "package").mkdir()
        (folder / "package" / "__init__.py").write_text("")
        (folder / "binary.py").write_bytes(b"\x00\x01\x02")
        yield folder


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trin.py"], "there is no file trin.py; did you mean train.py?"),
        (["package"], "package is a directory without a __main__.py; name a script in it"),
        (["broken.py"], "broken.py:2: expected ':'\n       for i in range(3)"),
        (["late.py"], "late.py:3: 'return' outside function"),
        (["notes.ipynb"], "notes.ipynb is not a Python script: convert it"),
        (["binary.py"], "binary.py"),
        (["-m", "nowhere"], "there is no module nowhere"),
        (["-m", "nowhere.at.all"], "there is no module nowhere.at.all"),
        (["-m", "package"], "package is a package without a __main__ module, and cannot be run"),
        (["--output", "no/where.json", "train.py"], "there is no directory"),
        (["--html", "no/where.html", "train.py"], "there is no directory no"),
        ([], "Missing argument 'SCRIPT'"),
    ],
)
def test_one_line_before_anything_runs(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    assert message in refusal(capsys, "run", *args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "there is no .batchproof/run.json; `batchproof run SCRIPT` writes one"),
        (["none.json"], "there is no none.json"),
        (["other.json"], "other.json was not written by batchproof run"),
        (["train.py"], "train.py was not written by batchproof run"),
    ],
)
def test_reports_of_nothing(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    assert message in refusal(capsys, "report", *args)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = command(capsys, "run", "--help")
    assert status == 0
    assert "batchproof run train.py --epochs 3" in out
    assert "batchproof report results.json" in command(capsys, "report", "--help")[1]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no devices")
def test_a_device_is_written_to_and_not_replaced(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    link = folder / "link.json"
    link.symlink_to("/dev/null")
    from batchproof.report import save
    from batchproof.scripts.run import ScriptRun

    save.data(ScriptRun("train.py"), link)
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()
