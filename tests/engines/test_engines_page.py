"""The page "From one machine to many": each engine gives the value of all samples, by the code that is shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
pytest.importorskip("datafusion")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What the page has defined before its engines."""
    namespace: dict[str, Any] = {"__name__": "engines"}
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), namespace)
    return namespace


def run(mark: str, given: dict[str, Any]) -> dict[str, Any]:
    chosen = [block for block in blocks("py") if mark in block]
    assert len(chosen) == 1
    namespace = dict(given)
    exec(compile(chosen[0], str(PAGE), "exec"), namespace)
    return namespace


def by_user(given: dict[str, Any]) -> list[float]:
    pred, real, user, r2 = (given[name] for name in ("pred", "real", "user", "r2"))
    return [r2(pred[user == one], real[user == one]).item() for one in range(3)]


@pytest.mark.parametrize(("mark", "users"), [('engine="ray"', 3), ("import ray.data", 2)])
def test_ray(nodes, given, mark, users):
    found = run(mark, given)["found"]
    assert [group.values[0] for group in found.groups] == pytest.approx(by_user(given)[:users], rel=1e-9)
    assert found.engine.startswith("Ray, ")


def test_dask(given, capsys):
    state = run("dask.bag", given)["state"].compute(scheduler="threads")
    assert given["plan"].finish(state).item() == pytest.approx(given["r2"](given["pred"], given["real"]).item())
    assert "tensor" in capsys.readouterr().out


def test_datafusion(given):
    found = run("datafusion", given)["rows"].to_pydict()
    assert found["r2"] == pytest.approx(by_user(given), rel=1e-9)
