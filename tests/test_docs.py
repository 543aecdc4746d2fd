"""What the documents show is what happens: their Python runs, and what they show as output is what is printed.

A ``text`` block right below a ``python`` block is what that prints; a ``console`` block is a command and its output.
"""

import dataclasses
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
from batchproof.derive import CallSite, Leaf, Verified
from batchproof.explanation import Curve, Explanation, Finding, Given, Keep, LossAggregation, Place, Reading
from batchproof.explanation.cause_texts import CAUSES
from batchproof.gradients.accumulation import Scheme
from batchproof.gradients.check import GradientCheck, MicroBatchWeights, ParameterGradient, WindowGradient
from batchproof.gradients.noise import GradientNoise, NoiseRow
from batchproof.gradients.partitions import CutReading, PartitionCheck
from batchproof.simulation import Estimate, Simulation, SimulationRow

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(batchproof.__path__, "batchproof.")
    if not module.name.endswith("__main__")  # importing it runs it
)
RESULTS = [
    Curve, Estimate, Explanation, Finding, Given, GradientCheck, GradientNoise, Keep, Leaf, MicroBatchWeights, NoiseRow,
    ParameterGradient, Place, Reading, Scheme, Simulation, SimulationRow, CallSite, Verified, WindowGradient,
    CutReading, LossAggregation, PartitionCheck,
]  # fmt: skip
RUN_COMMAND = "import sys; sys.argv[0] = 'batchproof'; from batchproof.cli import main; raise SystemExit(main())"
PROGRAMS = {"batchproof": ["-c", RUN_COMMAND], "python": [], "torchrun": ["-m", "torch.distributed.run"]}


def blocks(document: Path, language: str) -> list[tuple[int, str, str | None]]:
    """The fenced blocks of a language: the number of the first line, the text, and the output shown below it."""
    text = document.read_text(encoding="utf-8")
    block = rf"^```{language}\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?"
    fences = re.finditer(block, text, re.MULTILINE | re.DOTALL)
    return [(text[: fence.start(1)].count("\n") + 1, fence.group(1), fence.group(2)) for fence in fences]


def steady(output: str) -> str:
    """Rounding errors differ between processors: their size is shown, not compared, nor whether there are any."""
    lines = "\n".join(line.rstrip() for line in output.strip().splitlines())
    lines = re.sub(r"\b(same bits|rounding +\S+ ulps?\b.*)$", "ROUNDING", lines, flags=re.MULTILINE)
    return re.sub(r"\d+(\.\d+)?e-1\d", "ROUNDING", lines)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if blocks(path, "python")], ids=name)
def test_python_of(document, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    namespace = {"__name__": document.stem}
    for line, code, shown in blocks(document, "python"):
        # Padded, so that a traceback and batchproof's own reports point at the document's line.
        exec(compile("\n" * (line - 1) + code, str(document), "exec"), namespace)
        printed = capsys.readouterr().out
        if shown is not None:
            assert steady(printed) == steady(shown)


def test_the_readme_needs_no_clone(tmp_path):
    """Its code runs where batchproof is installed, in any folder."""
    code = "\n".join(code for _, code, _ in blocks(ROOT / "README.md", "python"))
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "readme.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        pytest.param(*block.split("\n", 1), id=f"{name(document)}:{line}")
        for document in DOCUMENTS
        for line, block, _ in blocks(document, "console")
    ],
)
def test_output_of(command, shown):
    prompt, program, *arguments = command.split()
    assert prompt == "$"
    done = subprocess.run(
        [sys.executable, *PROGRAMS[program], *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        timeout=120,
    )
    assert not done.stderr
    assert steady(done.stdout) == steady(shown)


@pytest.mark.parametrize("module", ["batchproof", *MODULES])
def test_examples_in_docstrings_of(module):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(module), optionflags=options).failed == 0


@pytest.mark.parametrize(
    "public",
    [
        "Accumulator",
        "accumulate",
        "check_gradients",
        "check_partitions",
        "exact",
        "explain",
        "gradient_noise",
        "micro_batch_weights",
        "testing.assert_independent_of_batch_size",
        "testing.assert_partition_invariant",
    ],
)
def test_docstring_has_an_example(public):
    thing = batchproof
    for part in public.split("."):
        thing = getattr(thing, part)
    assert doctest.DocTestParser().get_examples(thing.__doc__ or "")


@pytest.mark.parametrize("result", RESULTS)
def test_every_field_is_explained(result):
    explained = re.findall(r"^ +(\w+): ", (result.__doc__ or "").partition("Attributes:")[2], re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(result)]


def test_the_tutorial_has_the_script():
    script = (ROOT / "examples" / "question.py").read_text(encoding="utf-8")
    assert f"```python\n{script}```\n" in (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_every_verdict_is_in_the_report_page():
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (.*?) \(`([\w-]+)`\) \|", page, re.MULTILINE)
    assert {code: title for title, code in listed} == {code: cause.title for code, cause in CAUSES.items()}
