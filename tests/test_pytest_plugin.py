"""The fixture and marker, in test suites of somebody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

pytest_plugins = "pytester"
ROOT = Path(__file__).parents[1]
#: Loaded by its module, whether this environment's batchproof was installed with the entry point or before it.
PLUGIN = ("-p", "no:batchproof", "-p", "batchproof.pytest_plugin", "-p", "no:cacheprovider", "--strict-markers")
HEAD = """
import pytest
from torch import arange
import batchproof.pytest_plugin
"""
#: The keywords that reach the assertion.
SPY = """
@pytest.fixture
def seen(monkeypatch):
    seen = []
    monkeypatch.setattr(batchproof.pytest_plugin, "assertion", lambda *_, **how: seen.append(how))
    return seen
"""
TESTS = """
def mse(pred, real):
    return (pred - real).square().mean()

def rmse(pred, real):
    return mse(pred, real).sqrt()

def test_mse(assert_independent_of_batch_size):
    assert_independent_of_batch_size(mse, arange(20.0), arange(20.0) ** 2)

def test_rmse(assert_independent_of_batch_size):
    assert_independent_of_batch_size(rmse, arange(20.0), arange(20.0) ** 2)
"""


def test_the_entry_point_names_the_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"batchproof": "batchproof.pytest_plugin"}


def test_the_report_is_the_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HEAD + TESTS)
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E*rmse depends on the batch size*"])
    result.stdout.no_fnmatch_line("*testing.py*")


def test_what_the_call_gives_comes_before_the_marker_and_that_before_the_settings(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nbatchproof_batch_sizes = 1 16\nbatchproof_seed = 3")
    pytester.makepyfile(
        HEAD
        + SPY
        + """
def test_settings(seen, assert_independent_of_batch_size):
    assert_independent_of_batch_size(None)
    assert seen == [dict(batch_sizes=[1, 16], seed=3)]

@pytest.mark.batchproof(batch_sizes=[2])
class TestMarked:
    def test_marker(self, seen, assert_independent_of_batch_size):
        assert_independent_of_batch_size(None)
        assert seen == [dict(batch_sizes=[2], seed=3)]

    @pytest.mark.batchproof(batch_sizes=[4], seed=5)
    def test_closest_marker(self, seen, assert_independent_of_batch_size):
        assert_independent_of_batch_size(None, batch_dim=1)
        assert_independent_of_batch_size(None, seed=7)
        assert seen == [dict(batch_sizes=[4], seed=5, batch_dim=1), dict(batch_sizes=[4], seed=7)]
"""
    )
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=3)


def test_without_settings_the_assertion_has_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        HEAD
        + SPY
        + """
def test_defaults(seen, assert_independent_of_batch_size):
    assert_independent_of_batch_size(None)
    assert seen == [dict(batch_sizes=None, seed=0)]
"""
    )
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ini", "marker", "message"),
    [
        ("", "batch_size=[2]", "*takes batch_sizes and seed, not batch_size*"),
        ("", "2", "*takes batch_sizes and seed, not 2*"),
        ("batchproof_batch_sizes = 1 two", "", "*are whole numbers*'two'*"),
    ],
)
def test_what_is_wrong_is_named(pytester: pytest.Pytester, ini: str, marker: str, message: str) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile(f"{HEAD}\n@pytest.mark.batchproof({marker})\n{TESTS[TESTS.index('def test_rmse') :]}")
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


def test_the_plugin_never_imports_torch() -> None:
    code = "import sys, batchproof.pytest_plugin; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
