"""``python docs/integration_table.py``: the table of docs/integrations.md, made by the tests that carry its rows.

A test says what it shows: ``@pytest.mark.integration("package", "what works")``. Run as a script, the marked tests run,
and a row is written for what passed alone, with the version of the package. What is not installed here keeps its row.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "integrations.md"
HEAD = "| package | version | what works |\n| --- | --- | --- |\n"

#: The page of each package.
PAGES = {
    "accelerate": "accelerate",
    "lightning": "lightning",
    "pytorch-ignite": "ignite",
    "pytorch-lightning": "lightning",
    "torchmetrics": "lightning",
    "transformers": "hugging-face",
}
#: Package and what works.
Row = tuple[str, str]


def marked() -> dict[Row, set[str]]:
    """What the tests say that they show, and the files in which they do."""
    found: dict[Row, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if "mark.integration(" in (text := path.read_text(encoding="utf-8")):
            for row in _marks(ast.parse(text)):
                found.setdefault(row, set()).add(path.relative_to(ROOT).as_posix())
    return found


def _marks(tree: ast.Module) -> Iterator[Row]:
    names = {
        ast.unparse(node.targets[0]): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.integration":
            said = [names[arg.id] if isinstance(arg, ast.Name) else ast.literal_eval(arg) for arg in node.args]
            yield str(said[0]), str(said[1])


def shown() -> dict[Row, str]:
    """The rows of the page, and the version of each."""
    rows = re.findall(
        r"^\| \[?`([\w-]+)`(?:\]\([^)]*\))? \| ([\w.+]+) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    return {(package, works): version for package, version, works in rows}


def table(rows: dict[Row, str]) -> str:
    """The table, a line for each row, by package."""
    lines = []
    for (package, works), version in sorted(rows.items()):
        name = f"[`{package}`]({PAGES[package]}.md)" if package in PAGES else f"`{package}`"
        lines.append(f"| {name} | {version} | {works} |\n")
    return HEAD + "".join(lines)


def installed(package: str) -> str | None:
    """The version of a package here."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def passed(files: list[str]) -> set[Row]:
    """The rows of which every test passed, some at least."""
    import pytest

    outcomes: dict[Row, list[str]] = {}

    class Outcomes:
        rows: dict[str, list[Row]] = {}  # noqa: RUF012

        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            for item in items:
                self.rows[item.nodeid] = [(str(m.args[0]), str(m.args[1])) for m in item.iter_markers("integration")]

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.when == "call" or report.outcome != "passed":
                for row in self.rows[report.nodeid]:
                    outcomes.setdefault(row, []).append(report.outcome)

    pytest.main(["-q", "-m", "integration and not long", *files], plugins=[Outcomes()])
    return {row for row, said in outcomes.items() if set(said) == {"passed"}}


def refreshed() -> str:
    """The page, with what works today."""
    marks, before = marked(), shown()
    works = passed(sorted(set().union(*marks.values())))
    rows = {}
    for row in marks:
        version = installed(row[0])
        if version is None and row in before:
            rows[row] = before[row]
        elif version is not None and row in works:
            rows[row] = version
    page = PAGE.read_text(encoding="utf-8")
    start = page.index(HEAD)
    end = re.compile(r"\n(?!\|)").search(page, start)
    assert end is not None
    return page[:start] + table(rows) + page[end.start() + 1 :]


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
    PAGE.write_text(refreshed(), encoding="utf-8")
