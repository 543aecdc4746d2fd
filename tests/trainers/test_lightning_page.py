"""The page on Lightning, and the callback's docstring: they run, and print what is shown."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning.pytorch")

PAGE = Path(__file__).parents[2] / "docs" / "lightning.md"
BLOCK = re.compile(r"^```py\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def printed() -> list[tuple[str, str]]:
    """What the page shows below its code, and what the code prints; the first block is a part of the second."""
    namespace: dict[str, Any] = {"__name__": "page"}
    found = []
    for code, shown in BLOCK.findall(PAGE.read_text(encoding="utf-8"))[1:]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, str(PAGE), "exec"), namespace)
        found.append((shown, output.getvalue()))
    return found


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = printed()
    assert len(blocks) == 3
    for shown, output in blocks:
        assert output == shown
    assert not [*tmp_path.iterdir()]


def test_the_docstring_of_the_callback() -> None:
    from batchproof.integrations import lightning

    (example,) = (
        found for found in doctest.DocTestFinder().find(lightning.ExactMetrics, "ExactMetrics") if found.examples
    )
    for line in example.examples:
        line.options.clear()
    assert doctest.DocTestRunner().run(example).failed == 0
