"""compare on scripts that end by steps, by epochs or early, or set seeds and schedules; the truth comes first."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.commands import inside
from tests.comparisons import shared_slots
from tests.planted_runs import DATA

from batchproof.scripts.compare import scheduler
from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import ComparedNumber, Comparison
from batchproof.scripts.compare.split import DifferenceCause

BEGIN = (
    DATA
    + """
model = torch.nn.Linear(4, 1)
with torch.no_grad():
    model.weight.zero_()
    model.bias.zero_()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
"""
)
STEP = """
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), real)
        loss.backward()
        optimizer.step()
"""
EPOCHS = (
    BEGIN
    + """
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
for epoch in range(3):
    loader, running = DataLoader(data, batch_size=32), 0.0
    for inputs, real in loader:"""
    + STEP
    + """        running += loss.item()
    train_loss = running / len(loader)
    scheduler.step()
"""
)
STEPS = (
    BEGIN
    + """
steps = 0
while steps < 20:
    loader, running = DataLoader(data, batch_size=32), 0.0
    for inputs, real in loader:"""
    + STEP
    + """        running += loss.item()
        steps += 1
    train_loss = running / len(loader)
"""
)
EARLY = (
    BEGIN
    + """
train_loss, epoch = 100.0, 0
while train_loss > 2.5 and epoch < 60:
    epoch += 1
    loader, running = DataLoader(data, batch_size=32), 0.0
    for inputs, real in loader:"""
    + STEP
    + """        running += loss.item()
    train_loss = running / len(loader)
"""
)
SEEDED = """
import random
import torch
torch.manual_seed(7)
""" + EPOCHS.replace("batch_size=32)", "batch_size=32, shuffle=True)")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(scheduler, "slots", shared_slots)
    with inside(tmp_path, monkeypatch, {}, 100) as path:
        yield path


def compared(script: str, **changes: Any) -> tuple[Comparison, ComparedNumber]:
    Path("train.py").write_text(script)
    found = compare("train.py", (10, 100), **{"seeds": 1, "jobs": 1, "cache": False, **changes})
    [number] = found.numbers
    return found, number


@functools.cache
def passes(size: int, count: int, decay: float = 1.0, updates: int = 0) -> list[tuple[float, float]]:
    """What each pass prints, and the loss on all samples at its end: the gradient by hand."""
    names: dict[str, Any] = {}
    exec(DATA, names)
    x, y = names["x"], names["y"]
    weight, bias = torch.zeros(4, 1), torch.zeros(1)
    found = []
    for number in range(count):
        printed = []
        for step in range(updates or 200 // size):
            here = slice(step * size % 200, step * size % 200 + size)
            residuals = x[here] @ weight + bias - y[here]
            printed.append(residuals.square().mean().item())
            rate = 0.01 * decay**number
            weight = weight - rate * 2 * x[here].T @ residuals / size
            bias = bias - rate * 2 * residuals.mean(0)
        found.append((sum(printed) / len(printed), (x @ weight + bias - y).square().mean().item()))
    return found


def test_by_epochs_with_a_schedule() -> None:
    found, number = compared(EPOCHS)
    many, few = passes(10, 3, 0.5), passes(100, 3, 0.5)
    controlled = passes(100, 3, 0.5, updates=20)  # its schedule counts epochs: the rates are the base's
    first, row = number.rows
    assert (first.reported.value, row.reported.value) == pytest.approx((many[-1][0], few[-1][0]), abs=1e-5)
    assert (first.updates, row.updates) == (60, 6)
    updates = row.part(DifferenceCause.UPDATES)
    assert updates is not None
    assert updates.value == pytest.approx(few[-1][1] - controlled[-1][1], abs=1e-5)
    assert ", all of it real, mostly fewer updates" in number.headline
    assert any("follows a schedule" in note for note in found.notes)


def test_by_steps() -> None:
    """With batches of 100, 20 updates are ten passes: both end after as many, and nothing of it is fewer updates."""
    found, number = compared(STEPS)
    many, few = passes(10, 1), passes(100, 10)
    first, row = number.rows
    assert (first.reported.value, row.reported.value) == pytest.approx((many[-1][0], few[-1][0]), abs=1e-5)
    assert (first.updates, row.updates) == (20, 20)
    parts = {part.cause: part.mean.value for part in row.parts}
    assert parts[DifferenceCause.UPDATES] == 0
    learning = (few[-1][0] - few[-1][1]) - (many[-1][0] - many[-1][1])
    assert parts[DifferenceCause.TRAINING] == pytest.approx(learning, abs=1e-5)
    assert "updates" not in number.headline
    assert "train_loss is compared where each run ends: at its value number 1 at 10, 10 at 100" in found.notes


def test_with_early_stopping() -> None:
    """The control runs stop early, too, and not after as many updates: why the numbers differ is not known."""
    found, number = compared(EARLY)
    ends = [next(n for n, (printed, _) in enumerate(passes(size, 60), 1) if printed <= 2.5) for size in (10, 100)]
    assert ends[0] != ends[1]
    values = [passes(size, 60)[end - 1][0] for size, end in zip((10, 100), ends)]
    assert [row.reported.value for row in number.rows] == pytest.approx(values, abs=1e-5)
    assert [row.updates for row in number.rows] == [20 * ends[0], 2 * ends[1]]
    assert f"at its value number {ends[0]} at 10, {ends[1]} at 100" in " ".join(found.notes)
    assert number.rows[1].part(DifferenceCause.UPDATES) is None
    assert "real" not in number.headline
    assert f"why is not known ({2 * ends[1]} updates instead of {20 * ends[0]})" in number.headline


def test_with_its_own_seed() -> None:
    found, number = compared(SEEDED, seeds=2, controls=False)
    assert any(note.startswith("other seeds give the same numbers") for note in found.notes)
    assert not number.rows[1].difference.standard_error
    assert "real" not in found.headline


def test_a_pass_without_an_update_has_the_name_of_the_others() -> None:
    """With batches of 100, the first pass makes no update: it is a pass of the same number."""
    every = "        if seen % 4 == 3:\n            optimizer.step()\n        seen += 1\n"
    script = EPOCHS.replace("        optimizer.step()\n", every).replace("scheduler =", "seen = 0\nscheduler =", 1)
    found, number = compared(script, controls=False)
    assert number.name == "train_loss"
    assert [row.epoch for row in number.rows] == [3, 3]
    assert not any("is not reported" in note for note in found.notes)
