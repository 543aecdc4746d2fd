"""What the documents show is what happens: their Python runs, and their console output is what the command prints."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import batchproof

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted(module.name for module in pkgutil.walk_packages(batchproof.__path__, "batchproof."))
RUN_COMMAND = "import sys; sys.argv[0] = 'batchproof'; from batchproof.cli import main; raise SystemExit(main())"


def blocks(document: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with the number of its first line."""
    text = document.read_text(encoding="utf-8")
    fences = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: fence.start(1)].count("\n") + 1, fence.group(1)) for fence in fences]


def steady(output: str) -> str:
    """Rounding errors differ between processors: their size is shown, not compared."""
    return re.sub(r"\d+(\.\d+)?e-1\d", "ROUNDING", "\n".join(line.rstrip() for line in output.strip().splitlines()))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if blocks(path, "python")], ids=name)
def test_python_of(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    namespace = {"__name__": document.stem}
    for line, code in blocks(document, "python"):
        # Padded, so that a traceback and batchproof's own reports point at the document's line.
        exec(compile("\n" * (line - 1) + code, str(document), "exec"), namespace)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        pytest.param(*block.split("\n", 1), id=f"{name(document)}:{line}")
        for document in DOCUMENTS
        for line, block in blocks(document, "console")
    ],
)
def test_output_of(command, shown):
    prompt, program, *arguments = command.split()
    assert (prompt, program) == ("$", "batchproof")
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        timeout=120,
    )
    assert not done.stderr
    assert steady(done.stdout) == steady(shown)


@pytest.mark.parametrize("module", ["batchproof", *MODULES])
def test_examples_in_docstrings_of(module):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(module), optionflags=options).failed == 0


@pytest.mark.parametrize("public", ["exact", "explain", "testing.assert_batch_invariant"])
def test_docstring_has_an_example(public):
    thing = batchproof
    for part in public.split("."):
        thing = getattr(thing, part)
    assert doctest.DocTestParser().get_examples(thing.__doc__ or "")
