"""Words that readers stumble over are gone from what they see: pages, rule pages, printed sentences, help, docstrings.

A name may be used in code and comments for whoever changes it; a sentence that is printed is for somebody who has
never seen this project.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchproof

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "batchproof"
#: Each with what to write in its place.
GONE = {
    r"\bmend(s|ed|ing)?\b": "repair, correct, fix",
    r"\bso many\b": "the number, or: up to 20",
    r"\breads? (low|high)\b": "is 1.0% too low",
    r"what comes of\b": "what averaging causes",
    r"\bgone with\b": "removed by",
    r"\bby samples\b(?! or)": "weighted",
    r"\bsamples? (of a batch )?(that )?meets?\b|\bmeets? each other\b": "every sample is compared with every other",
    r"\) meets? \(|\bshapes\b[^.|]{0,60}\bmeet\b": "shapes (B, 1) and (B,) broadcast to (B, B)",
    r"the target raised": "the error itself: only the target's own is the target's",
    r"\bhangs? on\b": "depends on",
    r"for the most part": "the share, in percent",
    r"with no line to blame": "no single line found",
    r"no data reaches": "does not depend on the data",
    r"pays? off little|\bpays off\b": "is worth it",
    r"made earlier": "cached",
    r"\banew\b": "again",
    r"a loop of your own": "custom loops",
    r"brings torch along|no torch is (installed|replaced)": "`batchproof[torch]` installs one",
    r"\btears\b": "splits",
}
ANY = re.compile("|".join(GONE), re.IGNORECASE)
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in ("files.md", "architecture.md")),
    *sorted(SOURCE.rglob("*.md")),
]
MODULES = sorted(SOURCE.rglob("*.py"))


def found_in(text: str) -> list[str]:
    words = " ".join(text.split())
    return [f"{words[max(0, m.start() - 40) : m.end() + 40]} -> {better}" for m, better in _found(words)]


def _found(words: str) -> Iterator[tuple[re.Match[str], str]]:
    if not ANY.search(words):
        return
    for pattern, better in GONE.items():
        for match in re.finditer(pattern, words, re.IGNORECASE):
            yield match, better


def strings_of(path: Path) -> Iterator[str]:
    """The strings of a module that it may print; of the command line also the docstrings, which are its help."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    unseen = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and path.parent.name != "cli"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unseen:
            yield node.value


def public_docstrings() -> Iterator[tuple[str, str]]:
    for name in (name for name in batchproof.__all__ if name != "__version__"):
        thing = getattr(batchproof, name)
        members = vars(thing).items() if inspect.isclass(thing) else ()
        if inspect.ismodule(thing):
            members = [(inner, vars(importlib.import_module(thing.__name__))[inner]) for inner in thing.__all__]
        for inner, member in [("", thing), *members]:
            if not inner.startswith("_") and inspect.getdoc(member):
                yield f"{name}.{inner}".rstrip("."), inspect.getdoc(member) or ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page(path):
    assert found_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_printed_sentences_of(path):
    assert [found for text in strings_of(path) for found in found_in(text)] == []


def test_public_docstrings():
    docstrings = dict(public_docstrings())
    assert {"explain", "exact", "Explanation.exit_status"} <= docstrings.keys()
    assert {name: found for name, text in docstrings.items() if (found := found_in(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "no averaging mends it", "the mean of batches reads LOW", "shapes (16, 1) and (16,) meet", "(B, 1) meets (B,)",
        "samples meet each other (B×B)", "gone with\n× b/b₀", "So many parameters are shown", "by samples",
    ],
)  # fmt: skip
def test_they_would_be_found(text):
    assert found_in(text)


@pytest.mark.parametrize("text", ["recommend, amended", "weighted by batch size", "values of batches meet the mean"])
def test_others_are_not(text):
    assert found_in(text) == []
