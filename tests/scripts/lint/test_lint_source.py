"""What lint reads: scripts in every encoding, notebooks, and files that are none of these."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchproof.scripts.lint.finding import Linted
from batchproof.scripts.lint.notebook import with_cells, without_magics
from batchproof.scripts.lint.one_file import lint, lint_path
from batchproof.scripts.lint.source import LARGEST

SCRIPT = """\
import torch.nn.functional as F

def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item()
    return total / len(loader)
"""
MEAN = SCRIPT.splitlines(keepends=True)


def places(linted: Linted) -> list[tuple[int, int, str]]:
    assert not linted.problems
    return [(finding.span.line, finding.span.column, finding.code) for finding in linted.findings]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(SCRIPT.encode(), (6, 9), id="plain"),
        pytest.param(b"\xef\xbb\xbf" + SCRIPT.encode(), (6, 9), id="byte order mark"),
        pytest.param(("# coding: latin-1\n# é\n" + SCRIPT).encode("latin-1"), (8, 9), id="latin-1"),
        pytest.param(SCRIPT.replace("\n", "\r\n").encode(), (6, 9), id="carriage returns"),
        pytest.param(SCRIPT.replace("\n", "\r").encode(), (6, 9), id="only carriage returns"),
        pytest.param(SCRIPT.replace("    ", "\t").encode(), (6, 3), id="tabs"),
        pytest.param(SCRIPT.replace("def ", "\fdef ").encode(), (6, 9), id="form feed"),
        pytest.param(
            SCRIPT.replace("    total +=", '    "\u2028\x0b\x1c"; total +=').encode(), (6, 16), id="odd breaks"
        ),
        pytest.param(SCRIPT.replace("    total +=", '    "é𝛼"; total +=').encode(), (6, 15), id="wide characters"),
        pytest.param(SCRIPT.replace("# ", "").encode() + b'"\\d"\n', (6, 9), id="an escape that Python warns of"),
    ],
)
def test_places_are_lines_and_characters_of_the_file(content: bytes, expected: tuple[int, int]) -> None:
    assert places(lint("train.py", content)) == [(*expected, "BP201")]


def test_the_span_ends_where_the_statement_ends() -> None:
    (finding,) = lint("train.py", SCRIPT.encode()).findings
    assert (finding.span.end_line, finding.span.end_column) == (6, len(MEAN[5].rstrip()) + 1)


@pytest.mark.parametrize(
    ("name", "content", "reason", "line"),
    [
        ("a.py", b"def f(:\n", "invalid syntax", 1),
        ("a.py", b"x = 1\nprint 'two'\n", "Missing parentheses", 2),
        ("a.py", b"\x7fELF\x00\x00\xff", "it is a binary file", None),
        ("a.py", b"x = 1\n\xff\n", "it is not utf-8 text", 2),
        ("a.py", b"x = 1\x00", "it is a binary file", None),
        ("a.py", b"# coding: no-such-encoding\n", "unknown encoding", None),
        ("a.py", b"x = " + b"(" * 5000 + b")" * 5000, "too many nested parentheses", 1),
        ("a.py", b"x = " + b"-" * 200_000 + b"1", "nested too deeply", None),
        ("a.py", b"x = 1\n" * LARGEST, "files over 2 MB are skipped", None),
        ("a.ipynb", b"{", "it is not a notebook", None),
        ("a.ipynb", b"[1]", "it is not a notebook: it has no list of cells", None),
        ("a.ipynb", b'{"cells": 3}', "it is not a notebook: it has no list of cells", None),
        ("a.ipynb", b'{"cells": [{}, 5]}', "it is not a notebook: its cell 2 is none", None),
        ("a.ipynb", b'{"worksheets": [3, {"cells": [4]}]}', "it is not a notebook: its cell 1 is none", None),
        ("a.py", b"# coding: undefined\nx = 1\n", "undefined", None),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(name: str, content: bytes, reason: str, line: int | None) -> None:
    linted = lint(name, content)
    assert linted.findings == ()
    (problem,) = linted.problems
    assert reason in problem.reason
    assert "\n" not in problem.reason
    assert problem.line == line


def test_deep_trees_that_parse_are_no_traceback() -> None:
    attributes = b"x = a" + b".b" * 20_000
    sums = b"x = " + b" + ".join([b"1"] * 20_000)
    for content in (attributes, sums):
        linted = lint("deep.py", content)
        assert all("nested too deeply" in problem.reason for problem in linted.problems)


def test_a_file_that_is_gone_or_closed(tmp_path: Path) -> None:
    (problem,) = lint_path(str(tmp_path / "none.py")).problems
    assert problem.reason == "it cannot be read: No such file or directory"


def notebook(*sources: str | list[str], kind: str = "code") -> bytes:
    cells = [{"cell_type": kind, "metadata": {}, "outputs": [], "source": source} for source in sources]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(book, indent=1, ensure_ascii=False) + "\n").encode()


def test_a_notebooks_places_are_counted_in_cells() -> None:
    book = notebook("%matplotlib inline\nimport torch.nn.functional as F", "".join(MEAN[2:5]) + "".join(MEAN[5:]))
    (finding,) = lint("train.ipynb", book).findings
    assert (finding.cell, finding.span.line, finding.span.column) == (2, 4, 9)
    assert all(related.span.cell == 2 for related in finding.related)


def test_what_one_cell_starts_another_may_add_to() -> None:
    book = notebook(
        ["import torch.nn.functional as F\n", "total = 0.0"],
        "for x, y in loader:\n    total += F.mse_loss(model(x), y).item()",
        "print(total / len(loader))",
    )
    (finding,) = lint("train.ipynb", book).findings
    assert (finding.cell, finding.span.line) == (2, 2)
    assert [(related.span.cell, related.span.line) for related in finding.related] == [(3, 1)]


def test_cells_that_are_not_code_are_not_read() -> None:
    assert lint("a.ipynb", notebook("def f(:", kind="markdown")) == Linted("a.ipynb")


def test_a_broken_cell_does_not_hide_the_others() -> None:
    linted = lint("train.ipynb", notebook("pip install torch", SCRIPT))
    assert [finding.cell for finding in linted.findings] == [2]
    assert [problem.reason for problem in linted.problems] == ["cell 1, line 1: invalid syntax"]


def test_old_notebooks() -> None:
    book = {"worksheets": [{"cells": [{"cell_type": "code", "input": SCRIPT.splitlines(keepends=True)}]}]}
    assert [finding.cell for finding in lint("old.ipynb", json.dumps(book).encode()).findings] == [1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!ls -l\nx = 1", "\nx = 1"),
        ("if x:\n    %time f()\ny = 2", "if x:\n    pass\ny = 2"),
        ("files = !ls\nx", "\nx"),
        ("torch.nn?\nx", "\nx"),
        ("?torch\nx", "\nx"),
        ("!pip install \\\n  torch\nx", "\n\nx"),
        ("%%bash\nfor x in y; do\nls\ndone", "\n\n\n"),
        ("%%time\nx = 1", "\nx = 1"),
        ("x = (3\n  % 2)", "x = (3\n  % 2)"),
        ('x = """\n!not a magic\n"""\n', 'x = """\n!not a magic\n"""\n'),
        ("s = '%d' % 3\nt = s != 'x'", "s = '%d' % 3\nt = s != 'x'"),
    ],
)
def test_magics(text: str, expected: str) -> None:
    assert without_magics(text) == expected


@pytest.mark.parametrize(
    "book",
    [
        notebook("x = 'é'", ["a\n", "b"]),
        json.dumps(json.loads(notebook("x = 'é'", ["a\n", "b"])), indent=2).encode(),
        json.dumps(json.loads(notebook("x = 'é'", ["a\n", "b"]))).encode(),
    ],
)
def test_a_notebook_is_written_back_as_it_was(book: bytes) -> None:
    assert with_cells(book, {}) == book
    changed = with_cells(book, {2: "a\nB"})
    assert changed is not None
    assert changed == book.replace(b'"b"', b'"B"')


def test_a_notebook_whose_formatting_cannot_be_kept_is_left_alone() -> None:
    assert with_cells(notebook("x").replace(b'"cells":', b'"cells" :'), {1: "y"}) is None
