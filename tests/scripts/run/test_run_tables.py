"""Tables that each batch adds to: every key is a number of its own, in each of the ways that scripts write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.running import run
from torch.nn import functional

#: What a batch's losses are, and their averages.
BATCH = """
from collections import defaultdict

def losses_of(xb, yb):
    pred = model(xb)
    return {"mse": F.mse_loss(pred, yb), "rmse": rmse(pred, yb)}

"""
WAYS = {
    "a default of zero": """
        totals = defaultdict(float)
        for xb, yb in loader:
            for k, v in losses_of(xb, yb).items():
                totals[k] += v.item()
        print({k: v / len(loader) for k, v in totals.items()})
    """,
    "keys that are there, divided in place": """
        totals = {"mse": 0.0, "rmse": 0.0}
        for xb, yb in loader:
            pred = model(xb)
            new = {"mse": F.mse_loss(pred, yb), "rmse": rmse(pred, yb)}
            for k in totals:
                totals[k] += new[k].item()
        for k in totals:
            totals[k] /= len(loader)
        print(totals)
    """,
    "a table that is written anew": """
        metrics = {"mse": 0.0, "rmse": 0.0}
        for xb, yb in loader:
            pred = model(xb)
            new = {"mse": F.mse_loss(pred, yb).item(), "rmse": rmse(pred, yb).item()}
            metrics = {k: metrics[k] + v for k, v in new.items()}
        metrics = {k: v / len(loader) for k, v in metrics.items()}
        print(metrics)
    """,
    "get with a default": """
        sums = {}
        for xb, yb in loader:
            for name, value in losses_of(xb, yb).items():
                sums[name] = sums.get(name, 0.0) + value.item()
        print({name: total / len(loader) for name, total in sums.items()})
    """,
    "a list of tables": """
        history = []
        for xb, yb in loader:
            pred = model(xb)
            history.append({"mse": F.mse_loss(pred, yb).item(), "rmse": rmse(pred, yb).item()})
        print({k: sum(row[k] for row in history) / len(history) for k in history[0]})
    """,
    "a table of lists": """
        log = defaultdict(list)
        for xb, yb in loader:
            pred = model(xb)
            stats = {"mse": F.mse_loss(pred, yb).item(), "rmse": rmse(pred, yb).item()}
            for k, v in stats.items():
                log[k].append(v)
        print({k: float(np.mean(v)) for k, v in log.items()})
    """,
}


def _exact() -> dict[str, float]:
    """Both losses of the data that `tests.running` has."""
    torch.manual_seed(0)
    x = torch.randn(100, 3)
    y = x.sum(1, keepdim=True) + torch.randn(100, 1)
    torch.randint(0, 4, (100,))
    mse = functional.mse_loss(torch.nn.Linear(3, 1)(x), y)
    return {"mse": float(mse.detach()), "rmse": float(mse.detach().sqrt())}


@pytest.mark.parametrize("way", WAYS)
def test_each_key_is_a_number_of_its_own(tmp_path: Path, way: str) -> None:
    found, out = run(tmp_path, BATCH + _dedented(WAYS[way]))
    assert not found.failed
    printed = eval(out.strip().splitlines()[-1])
    exact = _exact()
    rows = {row.name.partition("[")[2].rstrip("]"): row for row in found.measured}
    assert set(rows) == {"mse", "rmse"}
    for key, row in rows.items():
        assert row.last.printed == pytest.approx(printed[key], rel=1e-6)
        assert row.last.exact == pytest.approx(exact[key], rel=1e-6)
        assert row.last.is_exact is False
    assert rows["mse"].why.startswith("the last batch, of 4,")


def test_weights_belong_to_the_key_that_they_were_given_with(tmp_path: Path) -> None:
    text = """
        totals = defaultdict(float)
        for xb, yb in loader:
            for k, v in losses_of(xb, yb).items():
                totals[k] += v.item() * len(xb)
        averages = {k: v / len(data) for k, v in totals.items()}
        print(averages)
    """
    found, _ = run(tmp_path, BATCH + _dedented(text))
    rows = {row.name: row for row in found.measured}
    assert {name: bool(row.wrong) for name, row in rows.items()} == {"totals[mse]": False, "totals[rmse]": True}


def test_a_key_that_only_some_batches_have_is_of_those(tmp_path: Path) -> None:
    text = """
        totals, counts = defaultdict(float), defaultdict(int)
        for step, (xb, yb) in enumerate(loader):
            pred = model(xb)
            new = {"rmse": rmse(pred, yb)}
            if step % 2 == 0:
                new["mse"] = F.mse_loss(pred, yb)
            for k, v in new.items():
                totals[k] += v.item()
                counts[k] += 1
        print({k: v / counts[k] for k, v in totals.items()})
    """
    found, out = run(tmp_path, BATCH + _dedented(text))
    printed = eval(out)
    for row in found.measured:
        key = row.name.partition("[")[2].rstrip("]")
        assert row.last.batches == (7 if key == "rmse" else 4)
        assert row.last.printed == pytest.approx(printed[key], rel=1e-6)


def test_a_loop_over_phases_is_no_table(tmp_path: Path) -> None:
    text = """
        losses = {"train": 0.0, "val": 0.0}
        loaders = {"train": loader, "val": loader}
        for phase in ["train", "val"]:
            for xb, yb in loaders[phase]:
                losses[phase] += rmse(model(xb), yb).item()
            losses[phase] /= len(loaders[phase])
        print(losses)
    """
    found, _ = run(tmp_path, _dedented(text))
    assert sorted(row.name for row in found.measured) == ["losses[train]", "losses[val]"]
    assert all(row.last.exact == pytest.approx(_exact()["rmse"], rel=1e-6) for row in found.measured)


@pytest.mark.parametrize("unset", ["del k", "pass"])
def test_a_key_that_is_taken_away_again_is_not_read(tmp_path: Path, unset: str) -> None:
    text = f"""
        totals = defaultdict(float)
        for xb, yb in loader:
            for k, v in losses_of(xb, yb).items():
                totals[k] += v.item()
        for k, v in totals.items():
            {unset}
            mean = v / len(loader)
            print(mean)
    """
    found, out = run(tmp_path, BATCH + _dedented(text))
    assert not found.failed
    assert len(out.splitlines()) == 2


def _dedented(text: str) -> str:
    from textwrap import dedent

    return dedent(text)
