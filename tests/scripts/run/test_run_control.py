"""What a run may hold fixed: batch size, seed, updates, learning rate, evaluation put right, numbers by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from batchproof.scripts.run import Control, load
from batchproof.scripts.run.result import ScriptRun
from running import HEAD, one, run

TRAIN = """
def train(batches):
    total = 0.0
    for xb, yb in batches:
        optimizer.zero_grad()
        loss = rmse(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)

def evaluate(batches):
    total = 0.0
    with torch.no_grad():
        for xb, yb in batches:
            total += F.mse_loss(model(xb), yb).item()
    return total / len(batches)
"""
MAIN = """
for epoch in range(2):
    train_loss = train(loader)
    val_loss = evaluate(loader)
print(model.weight.tolist())
"""
SCRIPT = TRAIN + MAIN


def rows(found: ScriptRun) -> dict[str, list[tuple[int, int]]]:
    return {row.name: [(epoch.size, epoch.batches) for epoch in row.epochs] for row in found.measured}


def test_nothing_held_fixed_changes_nothing(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec(HEAD + TRAIN + MAIN.replace("print", "weight = str"), names)
    found, out = run(tmp_path, SCRIPT)
    assert out == f"{names['weight']}\n"
    assert found.control.is_plain
    assert (found.learning_rate, found.scheduled, found.updates, found.steps) == (0.1, False, (7, 7), 14)


def test_batch_size_of_all_loaders(tmp_path: Path) -> None:
    found, _ = run(tmp_path, SCRIPT, Control(batch_size=50))
    assert rows(found) == {"train_loss": [(50, 2), (50, 2)], "val_loss": [(50, 2), (50, 2)]}
    assert not found.control.is_plain


def test_loaders_whose_batch_size_cannot_be_set_are_named(tmp_path: Path) -> None:
    text = """
        from torch.utils.data import BatchSampler, SequentialSampler
        whole = DataLoader(data, batch_size=None)
        parts = DataLoader(data, batch_sampler=[[0, 1], [2, 3]])
        sampled = DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 16, False))
        print(len(sampled), len(parts))
    """
    found, out = run(tmp_path, text, Control(batch_size=50))
    assert out == "2 2\n"
    assert found.notes == (
        "a loader takes whole batches from its dataset: they stay as they are",
        "a loader takes its batches from list: they stay as they are",
    )


def test_a_seed(tmp_path: Path) -> None:
    text = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(1).item())\n"
    path = tmp_path / "seeded.py"
    path.write_text(text)
    seen = {run_alone(tmp_path, seed) for seed in (1, 1, 2)}
    assert len(seen) == 2


def run_alone(folder: Path, seed: int) -> str:
    import subprocess

    code = f"""
from pathlib import Path
from batchproof.scripts.run import Control, launch_quietly
launch_quietly({str(folder / "seeded.py")!r}, [], False, Control(seed={seed}), Path({str(folder / "out.json")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert load(folder / "out.json").control.seed == seed
    return done.stdout


@pytest.mark.parametrize("updates", [(7,), (5, 6), (1,), (2, 2)])
def test_updates_in_each_pass(tmp_path: Path, updates: tuple[int, ...]) -> None:
    found, _ = run(tmp_path, SCRIPT, Control(batch_size=50, updates=updates))
    assert found.updates == (updates[0], updates[-1])
    batches = [max(2, -(-count // 2) * 2) for count in found.updates]
    assert [epoch.batches for epoch in found.measured[0].epochs] == batches


def test_learning_rate(tmp_path: Path) -> None:
    text = "weight = model.weight.clone()\n" + TRAIN + "train([(x, y)])\nprint((weight - model.weight).sum().item())\n"
    once, twice = (run(tmp_path, text, Control(learning_rate=factor)) for factor in (1.0, 2.0))
    assert float(twice[1]) == pytest.approx(2 * float(once[1]), rel=1e-4)
    assert twice[0].learning_rate == 0.1


def test_a_schedule_is_noticed(tmp_path: Path) -> None:
    text = TRAIN + "schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)\n"
    text += "for _ in range(2):\n    train(loader)\n    schedule.step()\n"
    assert run(tmp_path, text)[0].scheduled


def test_evaluation_with_its_tail(tmp_path: Path) -> None:
    text = TRAIN + "short = DataLoader(data, 16, drop_last=True)\nevaluate(short)\nprint(len(short))\n"
    plain, _ = run(tmp_path, text)
    repaired, out = run(tmp_path, text, Control(repairs=("tail",)))
    assert (plain.measured[0].last.samples, repaired.measured[0].last.samples) == (96, 100)
    assert plain.measured[0].last.dataset == 100
    assert out == "6\n"


def test_evaluation_without_statistics_of_the_batch(tmp_path: Path) -> None:
    text = "model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))\n" + TRAIN
    text += "evaluate(loader)\nprint(model.training, model[1].training, model[1].num_batches_tracked.item())\n"
    plain, plain_out = run(tmp_path, text)
    repaired, mended_out = run(tmp_path, text, Control(repairs=("statistics",)))
    assert plain_out == "True True 7\n"
    assert mended_out == "True True 0\n"
    assert plain.measured[0].last.exact != repaired.measured[0].last.exact
    assert [seen.kind for seen in plain.seen if not seen.harmless] == ["statistics"]


def test_the_last_weights(tmp_path: Path) -> None:
    text = TRAIN + "train_loss = train(loader)\nprint(rmse(model(x), y).item())\n"
    found, out = run(tmp_path, text, Control(last_weights=True))
    epoch = found.measured[0].last
    assert epoch.settled == pytest.approx(float(out), rel=1e-6)
    assert epoch.settled != pytest.approx(epoch.exact, rel=1e-3)
    assert out == run(tmp_path, text)[1]


def test_the_last_weights_leave_buffers_and_random_numbers_alone(tmp_path: Path) -> None:
    text = "model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))\n"
    text += "optimizer = torch.optim.Adam(model.parameters())\n" + TRAIN
    text += "for _ in range(2):\n    train(loader)\n"
    text += "print([value.sum().item() for value in model.state_dict().values()], torch.rand(1))\n"
    plain, measured = run(tmp_path, text), run(tmp_path, text, Control(last_weights=True))
    assert plain[1] == measured[1]
    assert measured[0].measured[0].last.settled is not None


@pytest.mark.parametrize(
    ("name", "line", "value"),
    [
        ("val_loss", "val_loss = 0.5", 0.5),
        ("loss", 'log = {"loss": torch.tensor(2.0)}', 2.0),
        ("acc", "log = {}\nlog['acc'] = 3", 3.0),
    ],
)
def test_a_number_by_name(tmp_path: Path, name: str, line: str, value: float) -> None:
    found, _ = run(tmp_path, line, Control(report=name))
    assert found.reported is not None
    assert (found.reported.name, found.reported.values) == (name, (value,))
    assert found.reported.place.file.endswith("script.py")


def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    found, _ = run(tmp_path, "a = 1\n", Control(report="val_loss"))
    assert found.reported is None
    assert found.notes == ("--report val_loss: val_loss is nowhere assigned, and no key of a log",)


def test_results_are_what_they_were_after_json(tmp_path: Path) -> None:
    found, _ = run(tmp_path, SCRIPT, Control(batch_size=50, updates=(3,), repairs=("tail",), last_weights=True))
    assert ScriptRun.from_dict(found.to_dict()) == found


def test_a_script_that_trains_gets_the_same_weights(tmp_path: Path) -> None:
    text = SCRIPT.replace("range(2)", "range(3)") + "torch.save(model.state_dict(), 'weights.pt')\n"
    text = text.replace("'weights.pt'", repr(str(tmp_path / "weights.pt")))
    exec(HEAD + text, {"__name__": "script"})
    plain = torch.load(tmp_path / "weights.pt")
    run(tmp_path, text, Control(last_weights=True))
    measured = torch.load(tmp_path / "weights.pt")
    assert all(torch.equal(plain[name], measured[name]) for name in plain)


def test_one_place(tmp_path: Path) -> None:
    row, epoch = one(tmp_path, TRAIN + "evaluate(loader)\n")
    assert (row.phase, epoch.updates) == ("evaluation", 0)
