"""`batchproof run` on the ways in which scripts average: what is measured, and that it is the exact value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from running import HEAD, one, run

SCORED = "for xb, yb in loader:\n    pred = model(xb)\n"
#: Scripts that report the mean of the batches' root mean square errors, each in another way.
RMSE = {
    "running sum": """
        total = 0.0
        for xb, yb in loader:
            total += rmse(model(xb), yb).item()
        result = total / len(loader)
    """,
    "a variable for everything": """
        total = 0.0
        for i, batch in enumerate(loader):
            inputs, labels = batch[0].to("cpu"), batch[1].to("cpu")
            pred = model(inputs)
            loss = rmse(pred, labels)
            value = loss.item()
            total += value
        result = total / (i + 1)
    """,
    "a list": """
        losses = []
        for xb, yb in loader:
            losses.append(rmse(model(xb), yb).item())
        result = np.mean(losses)
    """,
    "a list of tensors": """
        losses = []
        for xb, yb in loader:
            losses.append(rmse(model(xb), yb).detach())
        result = torch.stack(losses).mean().item()
    """,
    "a comprehension": """
        result = sum(rmse(model(xb), yb).item() for xb, yb in loader) / len(loader)
    """,
    "divided in place": """
        result = 0.0
        with torch.no_grad():
            for xb, yb in loader:
                result += rmse(model(xb), yb).item()
        result /= len(loader)
    """,
    "a running mean": """
        total = 0.0
        for i, (xb, yb) in enumerate(loader):
            total += rmse(model(xb), yb).item()
            result = total / (i + 1)
    """,
    "written out": """
        total = 0.0
        for xb, yb in loader:
            gap = model(xb) - yb
            squared = torch.square(gap)
            mean = squared.sum() / xb.shape[0]
            root = torch.sqrt(mean)
            total += root.item()
        result = total / len(loader)
    """,
    "a function that trains": """
        def step(net, xb, yb):
            optimizer.zero_grad()
            loss = rmse(net(xb), yb)
            (0 * loss).backward()
            return loss.item()
        def train(net, batches):
            total = 0.0
            for xb, yb in batches:
                total += step(net, xb, yb)
            return total / len(batches)
        result = train(model, loader)
    """,
    "a method": """
        class Trainer:
            def __init__(self):
                self.net, self.criterion = model, nn.MSELoss()
            def score(self, xb, yb):
                return torch.sqrt(self.criterion(self.net(xb), yb))
            def fit(self):
                self.total = 0
                for xb, yb in loader:
                    self.total += self.score(xb, yb).item()
                return self.total / len(loader)
        result = Trainer().fit()
    """,
    "a meter": """
        class Meter:
            def __init__(self): self.reset()
            def reset(self): self.sum, self.count, self.avg = 0.0, 0, 0.0
            def update(self, value, n=1):
                self.sum += value * n
                self.count += n
                self.avg = self.sum / self.count
        other, meter = Meter(), Meter()
        for xb, yb in loader:
            pred = model(xb)
            meter.update(rmse(pred, yb).item())
        result = meter.avg
    """,
    "slices of tensors": """
        total = 0.0
        for i in range(0, 100, 16):
            xb, yb = x[i : i + 16], y[i : i + 16]
            total += rmse(model(xb), yb).item()
        result = total / 7
    """,
    "a while loop": """
        batches, total, n = iter(loader), 0.0, 0
        while True:
            try:
                xb, yb = next(batches)
            except StopIteration:
                break
            total += rmse(model(xb), yb).item()
            n += 1
        result = total / n
    """,
    "inference mode": """
        total = 0.0
        with torch.inference_mode():
            for xb, yb in loader:
                total += rmse(model(xb), yb).item()
        result = total / len(loader)
    """,
    "a compiled model": """
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        total = 0.0
        for xb, yb in loader:
            total += rmse(compiled(xb), yb).item()
        result = total / len(loader)
    """,
    "a penalty added in place": """
        total = 0.0
        for xb, yb in loader:
            loss = F.mse_loss(model(xb), yb)
            loss += 0.0 * F.l1_loss(model(xb), yb)
            total += torch.sqrt(loss).item()
        result = total / len(loader)
    """,
    "a model that gives its loss": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = model
            def forward(self, xb, yb):
                out = self.inner(xb)
                loss = torch.sqrt(F.mse_loss(out, yb))
                return out, loss
        net = Net()
        total = 0.0
        for xb, yb in loader:
            out, loss = net(xb, yb)
            total += loss.item()
        result = total / len(loader)
    """,
}


def known() -> tuple[float, list[float]]:
    """The root mean square error of all samples, and of each batch."""
    names: dict[str, object] = {}
    exec(HEAD, names)
    pred, real = names["model"](names["x"]).detach(), names["y"]  # type: ignore[operator]
    gaps = (pred - real).double()
    return gaps.square().mean().sqrt().item(), [part.square().mean().sqrt().item() for part in gaps.split(16)]


@pytest.mark.parametrize("text", RMSE.values(), ids=RMSE.keys())
def test_a_root_in_each_batch(tmp_path: Path, text: str) -> None:
    exact, batches = known()
    row, epoch = one(tmp_path, text)
    assert epoch.printed == pytest.approx(sum(batches) / 7, rel=1e-6)
    assert epoch.exact == pytest.approx(exact, rel=1e-6)
    assert epoch.weighted == pytest.approx((16 * sum(batches[:6]) + 4 * batches[6]) / 100, rel=1e-6)
    assert epoch.sizes == ((16, 6), (4, 1))
    assert epoch.is_exact is False
    assert not row.is_sum


SCRIPTS = {
    "weighted by the true count": (
        SCORED + "    total += F.mse_loss(pred, yb).item() * xb.size(0)\n    n += xb.size(0)\nresult = total / n",
        True,
    ),
    "summed over the dataset": (
        SCORED + "    total += F.mse_loss(pred, yb, reduction='sum').item()\nresult = total / len(loader.dataset)",
        True,
    ),
    "a short last batch": (SCORED + "    total += F.mse_loss(pred, yb).item()\nresult = total / len(loader)", False),
    "means over the dataset": (
        SCORED + "    total += F.mse_loss(pred, yb).item()\nresult = total / len(loader.dataset)",
        False,
    ),
    "a sum over batches": (
        SCORED + "    total += F.mse_loss(pred, yb, reduction='sum').item()\nresult = total / len(loader)",
        False,
    ),
}
WHY = {
    "a short last batch": "the last batch, of 4, counts as much as any other",
    "means over the dataset": "means of batches are added up, and divided by the number of samples",
    "a sum over batches": "sums over samples are not divided by how many samples there are",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_divisors(tmp_path: Path, name: str) -> None:
    text, is_right = SCRIPTS[name]
    exact, _ = known()
    row, epoch = one(tmp_path, f"total, n = 0.0, 0\n{text}\nprint(result)")
    assert epoch.exact == pytest.approx(exact**2, rel=1e-6)
    assert epoch.is_exact is is_right
    assert row.why == WHY.get(name, "")
    assert bool(row.remedy) is not is_right


def test_accuracy_in_percent(tmp_path: Path) -> None:
    text = """
        correct = total = 0
        for xb, cb in classes:
            _, predicted = torch.max(head(xb).data, 1)
            total += cb.size(0)
            correct += (predicted == cb).sum().item()
        accuracy = 100 * correct / total
    """
    found, _ = run(tmp_path, text)
    row = next(row for row in found.measured if row.accumulator == "correct")
    assert row.last.printed == row.last.exact
    assert 0 < row.last.printed <= 100


def test_class_weights(tmp_path: Path) -> None:
    text = """
        crit = nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 2.0, 5.0]))
        total = 0.0
        for xb, cb in classes:
            total += crit(head(xb), cb).item()
        result = total / len(classes)
    """
    names: dict[str, object] = {}
    exec(HEAD, names)
    logits = names["head"](names["x"])  # type: ignore[operator]
    exact = F.cross_entropy(logits, names["c"], weight=torch.tensor([0.1, 1.0, 2.0, 5.0])).item()  # type: ignore[arg-type]
    row, epoch = one(tmp_path, text)
    assert epoch.exact == pytest.approx(exact, rel=1e-6)
    assert epoch.is_exact is False
    assert "class weights" in row.why


def test_two_meters_of_one_class(tmp_path: Path) -> None:
    text = """
        class Meter:
            def __init__(self): self.reset()
            def reset(self): self.sum, self.count, self.avg = 0.0, 0, 0.0
            def update(self, value, n=1):
                self.sum += value * n
                self.count += n
                self.avg = self.sum / self.count
        roots, squares = Meter(), Meter()
        for xb, yb in loader:
            pred = model(xb)
            roots.update(rmse(pred, yb).item())
            squares.update(F.mse_loss(pred, yb).item(), xb.size(0))
            Meter()
        print(roots.avg, squares.avg)
    """
    exact, _ = known()
    found, out = run(tmp_path, text)
    rows = {row.name: row.last for row in found.measured}
    assert rows["roots"].exact == pytest.approx(exact, rel=1e-6)
    assert rows["squares"].exact == pytest.approx(exact**2, rel=1e-6)
    assert [rows["roots"].printed, rows["squares"].printed] == [float(text) for text in out.split()]


def test_passes_of_several_sizes_each_have_a_row(tmp_path: Path) -> None:
    text = """
        def evaluate(batches):
            total = 0.0
            for xb, yb in batches:
                total += rmse(model(xb), yb).item()
            return total / len(batches)
        for size in (10, 50, 100, 50):
            evaluate(DataLoader(data, batch_size=size))
    """
    exact, _ = known()
    row, _ = one(tmp_path, text)
    assert [epoch.number for epoch in row.epochs] == [1, 2, 3, 4]
    assert [(epoch.size, epoch.number) for epoch in row.shown] == [(10, 1), (50, 4), (100, 3)]
    assert [epoch.is_exact for epoch in row.shown] == [False, False, True]
    assert all(epoch.exact == pytest.approx(exact, rel=1e-6) for epoch in row.epochs)


def test_predictions_that_are_written_to(tmp_path: Path) -> None:
    text = """
        total = 0.0
        with torch.no_grad():
            for xb, yb in loader:
                pred = model(xb)
                total += rmse(pred, yb).item()
                pred.clamp_(-0.1, 0.1)
        result = total / len(loader)
    """
    _, epoch = one(tmp_path, text)
    assert epoch.exact is None
    assert epoch.reason == "model(xb) is written to after it was used"


def test_a_loss_that_draws_random_numbers(tmp_path: Path) -> None:
    text = """
        def noisy(pred, real):
            return torch.sqrt(((pred - real + torch.randn(1)) ** 2).mean())
        total = 0.0
        for xb, yb in loader:
            total += noisy(model(xb), yb).item()
        result = total / len(loader)
        print(torch.rand(1).item())
    """
    found, out = run(tmp_path, text)
    epoch = found.measured[0].last
    assert epoch.exact is None
    assert "it depends on something that was not seen" in epoch.reason
    torch.manual_seed(0)
    exec(HEAD, names := {})
    exec("for xb, yb in loader:\n    torch.randn(1)\n", names)
    assert float(out) == torch.rand(1).item()


def test_batches_that_take_different_ways(tmp_path: Path) -> None:
    text = """
        total = 0.0
        for i, (xb, yb) in enumerate(loader):
            pred = model(xb)
            if i % 2:
                loss = rmse(pred, yb)
            else:
                loss = F.l1_loss(pred, yb)
            total += loss.item()
        result = total / len(loader)
    """
    _, epoch = one(tmp_path, text)
    assert epoch.exact is None
    assert epoch.reason == "batches take different ways through the loop"


def test_a_factor_that_changes_with_the_batch(tmp_path: Path) -> None:
    text = """
        total = 0.0
        for i, (xb, yb) in enumerate(loader):
            loss = rmse(model(xb), yb) * (1 + 0.1 * i)
            total += loss.item()
        result = total / len(loader)
    """
    _, epoch = one(tmp_path, text)
    assert epoch.exact is None
    assert epoch.reason


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
@pytest.mark.parametrize("loss", ["((out - yb) ** 2).mean()", "torch.nn.functional.l1_loss(out, yb)"])
def test_samples_that_meet_are_said_to(tmp_path: Path, loss: str) -> None:
    text = f"""
        total = 0.0
        for xb, yb in loader:
            out = model(xb).squeeze(1)
            loss = {loss}
            total += loss.item()
        mse = total / len(loader)
    """
    found, _ = run(tmp_path, text)
    assert found.measured[0].why.startswith("(16, 1) and (16,) broadcast")
    assert [seen.kind for seen in found.seen if not seen.harmless] == ["broadcast"]


def test_what_only_a_run_shows(tmp_path: Path) -> None:
    text = """
        from torch.utils.data import RandomSampler
        net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        def train():
            total = 0.0
            for i, (xb, yb) in enumerate(DataLoader(data, 10, sampler=RandomSampler(data, replacement=True))):
                loss = F.mse_loss(net(xb), yb)
                (loss / 2).backward()
                if i % 2:
                    optimizer.step()
                    optimizer.zero_grad()
                total += loss.item()
            return total / (i + 1)
        def evaluate():
            total = 0.0
            with torch.no_grad():
                for i, (xb, yb) in enumerate(loader):
                    if i == 3:
                        continue
                    total += F.mse_loss(net(xb), yb).item()
            return total / len(loader)
        train_loss, val_loss = train(), evaluate()
    """
    found, _ = run(tmp_path, text)
    said = {seen.kind: seen.what for seen in found.seen}
    every = "one for every 2 batches, which accumulate gradients"
    assert said["updates"] == f"5 optimizer steps in a pass of 10 batches: {every}"
    assert "samples that it had drawn before" in said["duplicates"]
    assert said["statistics"].startswith("BatchNorm1d in training mode")
    assert said["skipped"] == "1 of 7 batches did not reach total"
    assert next(row for row in found.measured if row.phase == "training").last.duplicates > 10
    evaluation = next(row for row in found.measured if row.phase == "evaluation")
    assert evaluation.why == "6 batches were added, and the total is divided by 7"
    assert (found.steps, found.updates, found.loaders) == (5, (5,), 3)


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    text = """
        total = 0.0
        for i, (xb, yb) in enumerate(loader):
            loss = F.mse_loss(model(xb * (float("nan") if i == 2 else 1.0)), yb)
            total += loss.item()
        result = total / len(loader)
    """
    found, _ = run(tmp_path, text)
    assert [seen.what for seen in found.seen if seen.kind == "undefined"] == [
        "1 of 7 batches added a value to total that is not finite"
    ]
    assert math.isnan(found.measured[0].last.printed or 0.0) or found.measured[0].last.printed is None


def test_a_progress_line_is_no_result(tmp_path: Path) -> None:
    text = """
        running_loss = 0.0
        for i, (xb, yb) in enumerate(loader):
            running_loss += rmse(model(xb), yb).item()
            if i % 3 == 2:
                print(i, running_loss / 3)
                running_loss = 0.0
    """
    assert run(tmp_path, text)[0].measured == ()


def test_large_batches_are_folded_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchproof.scripts.run.pooled.MOST_BYTES", 300)
    exact, _ = known()
    _, epoch = one(tmp_path, RMSE["a list"])
    assert epoch.exact == pytest.approx(exact, rel=1e-6)


def test_lengths_that_differ_are_folded_by_length(tmp_path: Path) -> None:
    text = """
        total = 0.0
        for i, (xb, yb) in enumerate(loader):
            wide = xb.repeat(1, 1 + i % 2)
            pred = wide.tanh() * model.weight.sum()
            loss = torch.sqrt((pred ** 2).mean(1).mean())
            total += loss.item()
        result = total / len(loader)
    """
    names: dict[str, object] = {}
    exec(HEAD, names)
    x, weight = names["x"], names["model"].weight.sum()  # type: ignore[attr-defined]
    exact = ((x.tanh() * weight) ** 2).mean().sqrt().item()  # type: ignore[attr-defined]
    _, epoch = one(tmp_path, text)
    assert epoch.exact is None or epoch.exact == pytest.approx(exact, rel=1e-5)


def test_mixed_precision(tmp_path: Path) -> None:
    text = """
        total = 0.0
        for xb, yb in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = torch.sqrt(F.mse_loss(model(xb).float(), yb))
            total += loss.item()
        result = total / len(loader)
    """
    exact, _ = known()
    _, epoch = one(tmp_path, text)
    assert epoch.exact == pytest.approx(exact, rel=1e-2)
    assert epoch.is_exact is False


def test_evaluation_in_the_middle_of_training(tmp_path: Path) -> None:
    text = """
        def evaluate():
            total = 0.0
            for xb, yb in loader:
                total += F.l1_loss(model(xb), yb).item()
            return total / len(loader)
        total = 0.0
        for i, (xb, yb) in enumerate(loader):
            pred = model(xb)
            if i == 3:
                middle = evaluate()
            total += rmse(pred, yb).item()
        result = total / len(loader)
    """
    exact, _ = known()
    found, _ = run(tmp_path, text)
    assert {row.place.line: row.last.is_exact for row in found.measured} == {26: False, 33: False}
    assert found.measured[-1].last.exact == pytest.approx(exact, rel=1e-6)


def test_the_state_of_a_metric_object_stays_its_own(tmp_path: Path) -> None:
    text = """
        import torchmetrics
        metric = torchmetrics.Accuracy(task="multiclass", num_classes=4)
        total = 0.0
        for xb, cb in classes:
            total += metric(head(xb), cb).item()
        result = total / len(classes)
        print(metric.tp.sum().item() + metric.fn.sum().item(), metric.compute().item())
    """
    found, out = run(tmp_path, text)
    samples, accuracy = out.split()
    assert samples == "100"
    assert found.measured[0].last.exact == pytest.approx(float(accuracy), rel=1e-6)
    assert found.measured[0].last.is_exact is False
