"""The pages of the Trainer and of accelerate: their code runs, and prints what is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("transformers")
PAGES = Path(__file__).parents[2] / "docs"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["hugging-face", "accelerate"])
def test_what_a_page_shows(page, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    [(code, shown)] = re.findall(r"^```py\n(.*?)^```$\n\n```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(code, page, "exec"), {"__name__": page})
    assert capsys.readouterr().out == shown
