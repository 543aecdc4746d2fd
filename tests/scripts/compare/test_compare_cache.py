"""Kept runs: they hold as long as nothing that they read has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.comparisons import World

from batchproof.scripts.compare import inputs
from batchproof.scripts.compare.cache import Cache
from batchproof.scripts.compare.compare import cache_of
from batchproof.scripts.compare.inputs import ReadFolders, local_modules, stamp
from batchproof.scripts.compare.record import RunOutcome, Setting
from batchproof.scripts.compare.scheduler import ScriptCommand
from batchproof.scripts.compare.watch import Noted, is_installed, load
from batchproof.scripts.compare.workspace import Workspace

SETTING = Setting(16, 1, (20,), 0.5, ("tail",))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".batchproof" / "cache", "key")


def kept(cache: Cache) -> Path:
    assert cache.folder is not None
    [entry] = cache.folder.iterdir()
    return entry


def test_what_was_kept_is_read_again(cache: Cache) -> None:
    outcome = World().run(SETTING)
    assert cache.read(SETTING) is None
    cache.write(outcome, {})
    assert cache.read(SETTING) == replace(outcome, cached=True)
    assert cache.read(replace(SETTING, seed=2)) is None
    assert replace(cache, key="other").read(SETTING) is None


def test_numbers_that_are_not_finite_are_kept(cache: Cache) -> None:
    outcome = World().run(SETTING)
    [row] = outcome.run.measured
    values = replace(row.last, printed=float("nan"), exact=float("inf"))
    cache.write(replace(outcome, run=replace(outcome.run, measured=(replace(row, epochs=(values,)),))), {})
    found = cache.read(SETTING)
    assert found is not None
    assert str(found.readings[0].reported) == "nan"
    assert found.readings[0].values.exact == float("inf")


def test_a_run_that_failed_is_not_kept(cache: Cache) -> None:
    cache.write(RunOutcome(SETTING, failed="out of memory"), {})
    assert cache.read(SETTING) is None


def test_a_data_file_that_changed(cache: Cache, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1,2")
    cache.write(World().run(SETTING), {str(data): stamp(str(data))})
    assert cache.read(SETTING) is not None
    data.write_text("1,2,3")
    assert cache.read(SETTING) is None


def test_a_new_file_in_a_folder_that_was_listed(cache: Cache, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    cache.write(World().run(SETTING), {str(images): stamp(str(images))})
    assert cache.read(SETTING) is not None
    (images / "1.png").write_text("")
    assert cache.read(SETTING) is None


def test_what_changed_during_the_run_is_not_kept(cache: Cache, tmp_path: Path) -> None:
    held = replace(cache, inputs=ReadFolders((tmp_path / "own",)).begin())
    (tmp_path / "own").mkdir()
    held.write(World().run(SETTING), {})
    assert held.read(SETTING) is None


def test_what_depends_on_more_than_can_be_known_is_not_kept(cache: Cache) -> None:
    cache.write(replace(World().run(SETTING), unknowable="it uses the network"), {})
    assert cache.read(SETTING) is None


def test_only_files_of_packages_and_the_system_are_not_looked_at() -> None:
    assert is_installed(pytest.__file__)
    assert is_installed(json.__file__)
    assert is_installed("/dev/null")
    assert not is_installed("/developer/data.csv")
    assert not is_installed(str(Path(sys.prefix) / "src" / "app" / "data.csv"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {}, "outcome": {}}', '{"files": 3}', "null"])
def test_an_entry_that_somebody_has_been_at(cache: Cache, text: str) -> None:
    cache.write(World().run(SETTING), {})
    kept(cache).write_text(text)
    assert cache.read(SETTING) is None


def test_an_entry_is_whole_json_and_git_does_not_see_it(cache: Cache, tmp_path: Path) -> None:
    cache.write(World().run(SETTING), {})
    assert json.loads(kept(cache).read_text())["outcome"]["setting"]["batch_size"] == 16
    assert (tmp_path / ".batchproof" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Cache(tmp_path / "file" / "cache", "key").write(World().run(SETTING), {})
    Cache(None).write(World().run(SETTING), {})
    assert Cache(None).read(SETTING) is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script with its data, outside of which there is more."""
    own = tmp_path / "own"
    (own / "data").mkdir(parents=True)
    (own / "train.py").write_text("import losses\nopen('../more/table.csv')\n")
    (own / "losses.py").write_text("rmse = 1\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "table.csv").write_text("1")
    monkeypatch.chdir(own)
    return own


def key(*arguments: str) -> str:
    script = Path("train.py")
    return cache_of(ScriptCommand(str(script), arguments), script, Workspace((Path.cwd(),), "copy"), ()).key


def test_the_key_is_of_all_that_a_run_may_depend_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key(), key("--lr", "1"), key("--lr 1")]
    for name in ("train.py", "losses.py", "data/new.bin", "../more/table.csv"):
        path = folder / name
        path.write_text(f"{path.read_text() if path.is_file() else ''}# changed\n")
        keys.append(key())
    monkeypatch.setenv("LR", "0.1")
    keys.append(key())
    site = folder.parent / "site"
    (site / "torchlike-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(site))
    keys.append(key())
    (site / "torchlike-1.0.dist-info").rename(site / "torchlike-1.1.dist-info")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_the_key_is_not_of_what_no_run_depends_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    (folder / "train.py").write_text((folder / "train.py").read_text())  # saved again, as it was
    monkeypatch.setenv("SSH_TTY", "/dev/pts/9")
    (folder / "__pycache__").mkdir()
    (folder / "report.html").write_text("a report of ours")
    Cache(Path(".batchproof") / "cache").files_of_ours([Path("report.html")])
    assert key() == before


def test_a_folder_with_too_many_files_is_not_looked_through(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_FILES", 3)
    assert key() == ""


def test_runs_that_share_a_folder_are_not_kept(folder: Path) -> None:
    script = Path("train.py")
    assert cache_of(ScriptCommand("train.py"), script, Workspace((folder,), "shared"), ()).folder is None


WATCHED = """
import os, pathlib, sys
from batchproof.scripts.compare.watch import FileWatch
notes, own, more = map(pathlib.Path, sys.argv[1:4])
FileWatch(notes, [str(own)], [str(own)]).begin()
(own / "checkpoint").write_text("")
(own / "checkpoint").read_text()
exec(sys.argv[4])
"""


def watched(folder: Path, code: str) -> Noted:
    """What is noted of a process that does this."""
    notes = folder.parent / "notes"
    subprocess.run([sys.executable, "-c", WATCHED, notes, folder, folder.parent / "more", code], check=True)
    return load(notes)


def test_what_is_read_and_written_outside_is_noted(folder: Path) -> None:
    more = folder.parent / "more"
    assert watched(folder, "").read == {}
    (more / "late.csv").write_text("")
    (folder / "link").symlink_to(more / "late.csv")
    code = "os.listdir(more); open(own / 'link'); open(more / 'out.txt', 'w'); open(more / 'out.txt')"
    noted = watched(folder, code)
    assert noted.written == (str(more / "out.txt"),)
    assert set(noted.read) == {str(more), str(more / "late.csv")}
    assert noted.read[str(more / "late.csv")] == stamp(str(more / "late.csv"))
    assert not noted.unknowable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_what_a_loader_worker_reads_is_noted(folder: Path) -> None:
    code = "os.fork() or (open(more / 'table.csv'), os._exit(0)); os.wait()"
    assert set(watched(folder, code).read) == {str(folder.parent / "more" / "table.csv")}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("os.system('true')", "it starts other programs"),
        ("import subprocess; subprocess.run(['true'])", "it starts other programs"),
        (
            "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()",
            "it starts other programs",
        ),
        ("import socket\ntry: socket.create_connection(('127.0.0.1', 9))\nexcept OSError: pass", "it uses the network"),
    ],
)
def test_what_cannot_be_followed_is_noted(folder: Path, code: str, why: str) -> None:
    assert watched(folder, code).unknowable == why


def test_a_script_and_the_modules_that_it_imports(tmp_path: Path) -> None:
    script, module, package = tmp_path / "train.py", tmp_path / "losses.py", tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").write_text("from . import small\n")
    (package / "small.py").write_text("import losses\n")
    script.write_text("import torch, nets\nfrom losses import rmse\n")
    module.write_text("rmse = 1\n")
    assert [path.name for path in local_modules(script)] == ["train.py", "losses.py", "__init__.py", "small.py"]


def test_a_script_that_cannot_be_read_as_python_has_a_key(folder: Path) -> None:
    (folder / "train.py").write_bytes(b"\xff\xfe def (")
    assert key()
