"""The built pages: nothing in them comes from the network, formulas are drawn, and the reference leaves nothing out."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from rich.text import Text

import batchproof
import picture
from batchproof import errors
from batchproof.cli import COMMANDS

pytest.importorskip("sphinx", reason="`make docs` installs what builds the pages")
pytest.importorskip("furo")

DOCS = Path(__file__).parent.parent / "docs"
PUBLIC = [f"batchproof.{name}" for name in batchproof.__all__ if not name.startswith("_") and name != "testing"]
ERRORS = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "-c", str(DOCS), str(source), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COVERAGE_PROCESS_START": ""}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp("html")
    done = build(DOCS, out)
    assert (done.returncode, done.stderr) == (0, "")
    read = [*out.rglob("*.html"), *out.rglob("*.css")]
    return {path.relative_to(out).as_posix(): path.read_text(encoding="utf-8") for path in read}


def test_nothing_comes_from_the_network(pages):
    page_loads = re.compile(r"""<(?!a\b)[a-z]+\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
    style_loads = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?//""")
    assert [name for name, text in pages.items() if page_loads.search(text) or style_loads.search(text)] == []


def test_formulas_are_drawn(pages):
    why = pages["why.html"]
    assert why.count('<div class="formula"><svg') == (DOCS / "why.md").read_text(encoding="utf-8").count("$$") / 2
    assert 'aria-label="M_b \\le R"' in why
    assert "$" not in re.sub(r"<(pre|svg|script|style)\b.*?</\1>", "", why, flags=re.DOTALL)


def test_an_unknown_command_in_a_formula_fails_the_build(tmp_path):
    (tmp_path / "index.md").write_text("# Page\n\n$\\nosuchcommand{x}$\n")
    done = build(tmp_path, tmp_path / "html")
    assert done.returncode == 1
    assert "a command of this formula is not known" in done.stderr


@pytest.mark.parametrize("name", [*PUBLIC, "batchproof.testing.assert_independent_of_batch_size"])
def test_reference_has(name, pages):
    assert f'id="{name}"' in pages["reference.html"]


@pytest.mark.parametrize("error", ERRORS)
def test_reference_has_error(error, pages):
    assert re.search(rf'id="[\w.]*\b{error.__name__}"', pages["reference.html"])


def test_reports_are_in_colour(pages):
    plain = re.sub(r"<[^>]+>", "", pages["run.html"])
    assert "$ batchproof run examples/question.py" in plain
    assert re.search(r'<span class="red bold">✗ 2 of 2 numbers are off', pages["run.html"])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_has(command, pages):
    assert f'<section id="batchproof-{command}">' in pages["command-line.html"]


def test_the_picture_is_told_to_be_out_of_date():
    lines = Text(re.search("<desc[^>]*>(.*?)</desc>", picture.PICTURE.read_text("utf-8"), re.DOTALL)[1]).split("\n")
    lines = [Text(unescape(line.plain)) for line in lines]
    assert picture.is_current(lines)
    assert picture.is_current([Text(line.plain.replace("0.332", "0.331")) for line in lines])
    assert not picture.is_current([Text(line.plain.replace("Fix", "Use")) for line in lines])
