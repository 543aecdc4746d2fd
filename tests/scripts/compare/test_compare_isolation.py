"""Runs that are kept apart: the files of one are never another's, and the folder stays as it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.commands import inside
from tests.comparisons import shared_slots
from tests.planted_runs import DATA, FROZEN, MSE, evaluated

from batchproof.scripts.compare import scheduler, workspace
from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import Comparison
from batchproof.scripts.compare.workspace import Copies, kind_of, remove, roots_of

#: Fails where an earlier run, or one that goes on at once, has been; keeps its weights by C++, and loads them.
WRITES = """
import os, pathlib
os.makedirs("runs/1")
pathlib.Path("log.txt").open("a").write("begun\\n")
assert pathlib.Path("log.txt").read_text() == "before\\nbegun\\n"
torch.save({"bias": torch.tensor([0.5 + %s / 1000])}, "runs/1/best.pt")
with torch.no_grad():
    model.bias.copy_(torch.load("runs/1/best.pt")["bias"])
print(os.path.abspath("runs"))
"""
SIZE = "len(next(iter(DataLoader(data, batch_size=32)))[0])"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(scheduler, "slots", shared_slots)
    own = tmp_path / "own"
    own.mkdir()
    with inside(own, monkeypatch, {"log.txt": "before\n"}, 100) as path:
        yield path


def compared(script: str, *sizes: int, **changes: Any) -> Comparison:
    Path("train.py").write_text(script)
    return compare("train.py", sizes, **{"seeds": 1, "jobs": 2, "cache": False, "controls": False, **changes})


def is_allowed(kind: str) -> bool:
    return kind == "copy" or kind_of((Path.cwd(),), 1) == "overlay"


def alone(size: int) -> float:
    """What the script gives by itself: the mean of squared errors with a bias that follows the batch size."""
    names: dict[str, Any] = {}
    exec(DATA + FROZEN, names)
    with torch.no_grad():
        shifted = names["model"](names["x"]) + size / 1000 - names["y"]
    return float(shifted.square().mean())


@pytest.mark.parametrize("kind", ["overlay", "copy"])
def test_each_run_has_files_of_its_own(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_allowed(kind):
        pytest.skip("no overlay here")
    monkeypatch.setattr(sys.modules[compare.__module__], "kind_of", lambda roots, jobs: kind)
    found = compared(DATA + FROZEN + WRITES % SIZE + evaluated(MSE), 20, 50, 100)
    assert not found.failures
    rows = found.numbers[0].rows
    assert [row.reported.value for row in rows] == [pytest.approx(alone(row.size), abs=1e-6) for row in rows]
    assert found.numbers[0].place is not None
    assert found.numbers[0].place.file == "train.py"
    assert sorted(path.name for path in folder.iterdir()) == ["log.txt", "train.py"]
    assert (folder / "log.txt").read_text() == "before\n"


def test_a_folder_that_cannot_be_copied_is_shared_and_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[compare.__module__], "kind_of", lambda roots, jobs: "shared")
    script = DATA + FROZEN + "open('mine', 'x').close()\n" + evaluated(MSE) + "__import__('os').remove('mine')\n"
    found = compared(script, 20, 50, 100, cache=True)
    assert not found.failures  # one after the other
    assert any(note.startswith("the folder is too large to copy") for note in found.notes)
    assert compared(script, 20, 50, 100, cache=True).cached == 0


def test_what_is_written_outside_is_said_and_written_one_after_the_other(folder: Path) -> None:
    there = folder.parent / "mine"
    script = DATA + FROZEN + f"open({str(there)!r}, 'x').close()\n" + evaluated(MSE)
    found = compared(script + f"__import__('os').remove({str(there)!r})\n", 20, 50, 100)
    assert not found.failures
    assert any(f"the script writes {there}, outside" in note for note in found.notes)


def test_temporary_files_are_a_run_s_own_and_gone_after_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a short path: where a socket's would be too long, runs share the folder
    temporary = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    script = "import os, tempfile\nopen(os.path.join(tempfile.gettempdir(), 'x'), 'x')\n" + DATA + FROZEN
    found = compared(script + evaluated(MSE), 20, 50)
    assert not found.failures
    assert not any("outside" in note for note in found.notes)
    left = [one.name for one in temporary.iterdir() if not one.name.startswith("torchinductor_")]  # torch's own
    shutil.rmtree(temporary)
    assert not left


def test_the_folders_that_a_run_has_for_itself(folder: Path) -> None:
    scripts = folder / "scripts"
    scripts.mkdir()
    assert roots_of(scripts / "train.py") == (folder,)
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    assert roots_of(elsewhere / "train.py") == (folder, elsewhere)
    (folder.parent / ".git").mkdir()
    assert roots_of(elsewhere / "train.py") == (folder.parent,)


def test_a_large_folder_is_not_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_overlay_is_allowed", lambda roots: False)
    assert kind_of((folder,), 1) == "copy"
    (folder / ".git").mkdir()
    with (folder / ".git" / "large").open("wb") as file:
        file.truncate(workspace.MOST_BYTES + 1)
    assert kind_of((folder,), 1) == "copy"
    (folder / ".git" / "large").rename(folder / "large")
    assert kind_of((folder,), 1) == "shared"


def test_a_copy_has_links_and_names_paths_as_they_were(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "x.csv").write_text("1")
    (folder / "inside").symlink_to("data/x.csv")
    (folder / "outside").symlink_to("../elsewhere")
    (folder.parent / "elsewhere").mkdir()
    layers = folder.parent / "layers"
    copies = Copies([str(folder)], str(layers))
    code = (
        "import os, sys; from batchproof.scripts.compare.workspace import Copies; "
        "Copies(sys.argv[1:2], sys.argv[2]).make(); open('inside', 'a').write('2'); open('outside/new', 'x')"
    )
    subprocess.run([sys.executable, "-c", code, folder, layers], check=True)
    copy = Path(copies.there(str(folder / "data" / "x.csv")))
    assert copy.read_text() == "12"
    assert (folder / "data" / "x.csv").read_text() == "1"
    assert (folder.parent / "elsewhere" / "new").exists()
    assert copies.back(f"in {copy}") == f"in {folder / 'data' / 'x.csv'}"
    assert copies.there("/elsewhere") == "/elsewhere"


def test_a_folder_without_rights_is_removed(folder: Path) -> None:
    (folder / "runs" / "work").mkdir(parents=True)
    (folder / "runs" / "work").chmod(0)
    remove(folder / "runs")
    assert not (folder / "runs").exists()
