"""Kept runs: they hold as long as nothing that they read has changed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.comparisons import World

from batchproof.scripts.compare.cache import Cache, key_of, local_modules, stamp
from batchproof.scripts.compare.record import RunOutcome, Setting
from batchproof.scripts.compare.server import is_installed

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


def test_the_key_is_of_the_text_and_of_what_it_imports(tmp_path: Path) -> None:
    script, module, package = tmp_path / "train.py", tmp_path / "losses.py", tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").write_text("from . import small\n")
    (package / "small.py").write_text("import losses\n")
    script.write_text("import torch, nets\nfrom losses import rmse\n")
    module.write_text("rmse = 1\n")
    assert [path.name for path in local_modules(script)] == ["train.py", "losses.py", "__init__.py", "small.py"]
    keys = {key_of(script, []), key_of(script, ["--lr", "1"]), key_of(script, ["--lr 1"]), key_of(script, [], ["x"])}
    for path in (script, module, package / "small.py"):
        path.write_text(path.read_text() + "# changed\n")
        keys.add(key_of(script, []))
    assert len(keys) == 7


def test_a_script_that_cannot_be_read_as_python_has_a_key(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b"\xff\xfe def (")
    assert key_of(script, [])
