"""What the rules find: in the files of ``cases``, where a comment marks each line, and in their own pages' examples.

A new case is one new file there, or in ``cases/styles``, where the ways to average are collected, or in
``cases/ranks``, where faults that were reported in public are made small, each beside its repair; ``# finds: BP101``
stands on the line where the finding begins.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import batchproof
from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.one_file import lint, lint_path
from batchproof.scripts.lint.rule import Rule
from batchproof.scripts.lint.rules import BY_CODE, CODES, RULES

FOLDER = Path(__file__).parent / "cases"
CASES = [case for place in ("", "styles", "ranks") for case in sorted((FOLDER / place).glob("*.py"))]
MARK = re.compile(r"#.*\bfinds: (BP\d+(?:, BP\d+)*)")
SECTIONS = ("## Why it is bad", "## How large it is", "## Example", "## Fix")


def marked(text: str) -> list[tuple[int, str]]:
    lines = enumerate(text.splitlines(), 1)
    return [(line, code) for line, part in lines if (found := MARK.search(part)) for code in found[1].split(", ")]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case(case: Path) -> None:
    linted = lint_path(str(case))
    assert not linted.problems
    assert [(finding.span.line, finding.code) for finding in linted.findings] == marked(case.read_text())


def test_every_rule_has_a_case_that_it_finds() -> None:
    found = {code for case in CASES for _, code in marked(case.read_text())}
    assert found == set(CODES)


def examples(rule: Rule) -> tuple[str, str]:
    wrong, right = re.findall(r"^```py\n(.*?)^```$", rule.page, re.MULTILINE | re.DOTALL)
    return wrong, right


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_the_pages_examples(rule: Rule) -> None:
    wrong, right = examples(rule)
    assert [finding.code for finding in lint("wrong.py", wrong.encode()).findings] == [rule.code]
    assert [finding.code for finding in lint("right.py", right.encode()).findings] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_pages_are_complete(rule: Rule) -> None:
    places = [rule.page.find(section) for section in SECTIONS]
    assert -1 not in places
    assert places == sorted(places)
    assert rule.page.startswith("Finds ")
    how_large = rule.page[places[1] : places[2]]
    assert re.search(r"\d", how_large), "a figure, not an adjective"
    assert not rule.summary.endswith(".")


def test_codes_and_names_are_stable() -> None:
    published = {
        "BP101": ("nonlinear-metric-averaged", "error"),
        "BP102": ("ratio-averaged", "warning"),
        "BP103": ("coupled-loss-averaged", "warning"),
        "BP201": ("mean-of-batch-means", "note"),
        "BP202": ("wrong-weight", "warning"),
        "BP203": ("divided-by-dataset", "error"),
        "BP204": ("running-totals-added-again", "error"),
        "BP205": ("sum-over-batches", "error"),
        "BP301": ("only-last-batch", "warning"),
        "BP302": ("evaluation-drops-tail", "warning"),
        "BP303": ("padded-sampler", "warning"),
        "BP401": ("accumulation-divided", "warning"),
        "BP501": ("broadcast-shapes", "error"),
        "BP601": ("rank-metrics-averaged", "warning"),
        "BP602": ("rank-means-averaged", "note"),
        "BP603": ("loss-divided-by-ranks", "warning"),
        "BP604": ("sampler-same-order", "warning"),
        "BP605": ("one-rank-reported", "warning"),
        "BP606": ("repeats-gathered", "warning"),
    }
    now = {rule.code: (rule.name, rule.severity.value) for rule in RULES}
    assert published.items() <= now.items()
    assert list(BY_CODE) == sorted(BY_CODE)


NEW_RULE = """
from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, Verdict

RULE = Rule(__file__, Severity.ERROR, "any", site=lambda site: Verdict(site.add, "no", "yes"))
"""


def test_a_new_rule_is_a_module_and_its_page(tmp_path: Path) -> None:
    package = shutil.copytree(Path(batchproof.__file__).parent, tmp_path / "batchproof")
    rules = package / "scripts" / "lint" / "rules"
    (rules / "bp901_any_average.py").write_text(NEW_RULE)
    (rules / "bp901_any_average.md").write_text("Finds any average.\n")
    right = SQUARE_ROOT.replace("torch.sqrt(F.mse_loss(model(x), y))", "F.mse_loss(model(x), y) * len(y)")
    (tmp_path / "train.py").write_text(right.replace("len(loader)", "len(loader.dataset)"))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "batchproof", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    assert "Finds any average." in run("rule", "BP901")
    assert "BP901" in run("lint", "train.py")


def test_a_short_last_batch_is_a_note_and_an_average_of_f1_an_error() -> None:
    assert BY_CODE["BP201"].severity is Severity.NOTE
    assert BY_CODE["BP101"].severity is Severity.ERROR


SQUARE_ROOT = """
import torch
import torch.nn.functional as F

def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        loss = torch.sqrt(F.mse_loss(model(x), y))
        total += loss.item()
    return total / len(loader)
"""


def test_a_message_names_the_accumulator_what_is_added_and_where_it_comes_from() -> None:
    (finding,) = lint("train.py", SQUARE_ROOT.encode()).findings
    assert finding.code == "BP101"  # the weightiest: the last batch may be short as well
    assert finding.message.startswith("`total` averages `torch.sqrt(F.mse_loss(model(x), y))` over batches")
    assert "depends on the batch size" in finding.message
    assert finding.message.endswith("it tends to be too low")
    assert [related.span.line for related in finding.related] == [8, 10]
    assert finding.remedy


@pytest.mark.parametrize(
    "added", ["torch.sqrt(F.mse_loss(model(x), y))", "math.exp(F.cross_entropy(model(x), y).item())"]
)
def test_what_is_taken_of_a_mean_is_not_sent_through_exact(added: str) -> None:
    text = SQUARE_ROOT.replace("torch.sqrt(F.mse_loss(model(x), y))", added).replace("loss.item()", "loss")
    (finding,) = lint("train.py", text.encode()).findings
    assert finding.code == "BP101"
    assert "exact(" not in finding.remedy
    assert "average what it is taken of" in finding.remedy


def test_several_batch_sizes_of_which_the_first_is_one() -> None:
    assert [finding.code for finding in lint_path("examples/question.py").findings] == ["BP101", "BP101"]


def test_a_place_is_reported_once() -> None:
    for case in CASES:
        spans = Counter(finding.span for finding in lint_path(str(case)).findings)
        assert set(spans.values()) <= {1}
