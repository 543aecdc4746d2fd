"""The table of integrations is what the tests show: a row for each mark, in the version that is installed here."""

from __future__ import annotations

import ast

import pytest

import integration_table as made


def test_a_row_for_each_mark():
    """After a change: python docs/integration_table.py, where all packages are installed."""
    assert set(made.shown()) == set(made.marked())
    assert made.table(made.shown()) in made.PAGE.read_text(encoding="utf-8")


def test_rows_name_the_version_that_is_tested():
    pinned = {"transformers", "accelerate", "lightning"}  # others come in many versions
    for (package, _), version in made.shown().items():
        if package in pinned and made.installed(package) is not None:
            assert version == made.installed(package)


def test_what_marks_say():
    tree = ast.parse(
        'W = "works"\n@pytest.mark.integration("a", W)\ndef test(): ...\nm = pytest.mark.integration("b", "c")'
    )
    assert list(made._marks(tree)) == [("a", "works"), ("b", "c")]


@pytest.mark.parametrize(("body", "row"), [("assert True", 1), ("assert False", 0), ("pytest.skip('none')", 0)])
def test_a_row_is_what_passed(body, row, tmp_path):
    path = tmp_path / "test_it.py"
    path.write_text(f"import pytest\n@pytest.mark.integration('numpy', 'it')\ndef test_it():\n    {body}\n")
    assert made.passed([str(path)]) == ({("numpy", "it")} if row else set())
