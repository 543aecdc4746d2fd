"""One row for each number that a script reports, with epochs of its own, and the file where it is not the script's."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchproof.scripts.run.document import line_of
from batchproof.scripts.run.result import MeasuredAccumulator
from running import run

SCORE = """
def score(batches):
    total = 0.0
    with torch.no_grad():
        for xb, yb in batches:
            total += rmse(model(xb), yb).item()
    return total / len(batches)

val = DataLoader(TensorDataset(x[:50], y[:50]), 16, drop_last=True)
test = DataLoader(TensorDataset(x[50:], y[50:]), 16)
"""
CALLS = {
    "two variables": ("for epoch in range(2):\n    v = score(val); t = score(test)\n", {"v": 2, "t": 2}),
    "one list each": (
        "vs, ts = [], []\nfor epoch in range(2):\n    vs.append(score(val))\n    ts.append(score(test))\n",
        {"total, val": 2, "total, test": 2},
    ),
    "one variable": (
        "for epoch in range(2):\n    v = score(val)\n    print(v)\n    v = score(test)\n    print(v)\n",
        {"v, val": 2, "v, test": 2},
    ),
    "a loop over loaders": (
        (
            "out = {}\nfor epoch in range(2):\n    for part, batches in (('val', val), ('test', test)):\n"
            "        out[part] = score(batches)\nprint(out)\n"
        ),
        {"out[val]": 2, "out[test]": 2},
    ),
    "only printed": (
        "for epoch in range(2):\n    print(score(val), score(test))\n",
        {"total, val": 2, "total, test": 2},
    ),
    "one call, a new loader each time": (
        "for size in (8, 16, 32):\n    v = score(DataLoader(data, size))\n",
        {"v": 3},
    ),
    "two calls, one loader": ("v = score(val)\nfor epoch in range(2):\n    v = score(val)\n", {"v": 3}),
    "a function called with a word": (
        (
            "def epoch_of(part):\n    losses = []\n    for xb, yb in val:\n        loss = rmse(model(xb), yb)\n"
            "        if part == 'train':\n            loss.backward()\n            optimizer.step()\n"
            "        losses.append(loss.item())\n    print(np.mean(losses))\n"
            "for epoch in range(2):\n    epoch_of('first')\n    epoch_of('second')\n"
        ),
        {"losses, first": 2, "losses, second": 2},
    ),
    "an average kept by a word": (
        (
            "out = {}\nfor part in ('val', 'test'):\n    losses = torch.zeros(len(val))\n"
            "    for k, (xb, yb) in enumerate(val):\n        losses[k] = rmse(model(xb), yb).item()\n"
            "    out[part] = losses.mean()\n"
        ),
        {"out[val]": 1, "out[test]": 1},
    ),
    "called in a function": (
        (
            "def main():\n    own, other = val, test\n"
            "    for epoch in range(2):\n        print(score(own), score(other))\nmain()\n"
        ),
        {"total, own": 2, "total, other": 2},
    ),
    "a word that picks the loader": (
        (
            "loaders = {'val': val, 'test': test}\nfor epoch in range(2):\n    for phase in ('val', 'test'):\n"
            "        total = 0.0\n        for xb, yb in loaders[phase]:\n"
            "            total += rmse(model(xb), yb).item()\n"
            "        average = total / len(loaders[phase])\n        print(phase, average)\n"
        ),
        {"average, val": 2, "average, test": 2},
    ),
}


def _rows(folder: Path, text: str) -> tuple[MeasuredAccumulator, ...]:
    found, _ = run(folder, text)
    assert not found.failed
    return found.measured


@pytest.mark.parametrize("name", CALLS)
def test_each_number_has_its_own_epochs(tmp_path: Path, name: str) -> None:
    calls, expected = CALLS[name]
    rows = _rows(tmp_path, SCORE + calls)
    assert {row.name: len(row.epochs) for row in rows} == expected
    for row in rows:
        assert [epoch.number for epoch in row.epochs] == list(range(1, len(row.epochs) + 1))


def test_the_loader_that_drops_its_tail_is_named(tmp_path: Path) -> None:
    found, _ = run(tmp_path, SCORE + "v = score(val); t = score(test)\n")
    assert [seen.what for seen in found.seen if seen.kind == "dropped"] == [
        "val drops its short last batch: 2 samples left out"
    ]


def test_the_file_stands_beside_the_line_where_it_is_another_module(tmp_path: Path) -> None:
    (tmp_path / "elsewhere_scored.py").write_text(
        "import torch\n"
        "from torch import sqrt\n"
        """
def score(model, batches):
    total = 0.0
    for xb, yb in batches:
        total += sqrt(((model(xb) - yb) ** 2).mean()).item()
    return total / len(batches)
"""
    )
    found, _ = run(tmp_path, "from elsewhere_scored import score\nv = score(model, loader)\n")
    assert line_of(found.measured[0], found).endswith("elsewhere_scored.py:7")
    assert found.measured[0].name in ("v", "total", "score")
