"""Exact metrics in Lightning's trainers: under `self.log`, by a callback, in checkpoints and over two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import batchproof
from batchproof import BatchproofError

pytest.importorskip("lightning.pytorch")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:(lightning|pytorch_lightning|torch).*"),
]


SIZE, N = 16, 70  # a last batch of 6


def rmse(p: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(torch.mean((p - y) ** 2))


def mae(p: Tensor, y: Tensor) -> Tensor:
    return (p - y).abs().mean()


def both(p: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"rmse": rmse(p, y), "mae": mae(p, y)}


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def package(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


def samples(seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 3, generator=generator)
    return TensorDataset(x, (x.sum(1) + torch.randn(N, generator=generator)) * torch.linspace(0.2, 3, N))


def loader(seed: int = 0, size: int = SIZE) -> DataLoader[Any]:
    return DataLoader(samples(seed), batch_size=size)


def base(package: Any) -> Any:
    """A regressor that remembers what each stage predicted, and logs nothing."""

    class Regressor(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Linear(3, 1)
            self.seen: dict[str, list[Any]] = {}

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 0]

        def predicted(self, stage: str, batch: Any) -> tuple[Tensor, Tensor]:
            p, y = self(batch[0]), batch[1]
            self.seen.setdefault(f"{stage} {self.current_epoch}", []).append((p.detach().float(), y))
            return p, y

        def of(self, stage: str) -> list[Tensor]:
            return [torch.cat(column) for column in zip(*self.seen[stage], strict=True)]

        def training_step(self, batch: Any, _: int) -> Any:
            p, y = self.predicted("train", batch)
            return nn.functional.mse_loss(p, y.to(p.dtype))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    return Regressor


def trainer(package: Any, folder: Path, *callbacks: Any, **options: Any) -> Any:
    defaults = {
        "accelerator": "cpu", "devices": 1, "max_epochs": 2, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1,
    }  # fmt: skip
    return package.Trainer(callbacks=[*callbacks], default_root_dir=folder, **{**defaults, **options})


def each_epoch(package: Any, stage: str) -> Any:
    """A callback that keeps what was logged up to the end of each epoch."""

    class Logged(package.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.epochs: list[dict[str, Tensor]] = []

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if stage == "val" and not trainer.sanity_checking:
                self.epochs.append({key: value.clone() for key, value in trainer.callback_metrics.items()})

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if stage == "train":
                self.epochs.append({key: value.clone() for key, value in trainer.callback_metrics.items()})

    return Logged()


# ------------------------------------------------------------------ self.log


@pytest.mark.integration("lightning", "`self.log` of a metric: exact, by epoch and by step")
def test_a_logged_metric_is_exact_in_each_epoch(package: Any, tmp_path: Path) -> None:
    steps: list[tuple[float, float]] = []

    class Module(base(package)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rmse, self.val_rmse = batchproof.exact(rmse), batchproof.exact(rmse)

        def training_step(self, batch: Any, _: int) -> Any:
            p, y = self.predicted("train", batch)
            value = self.rmse(p, y)
            self.log("rmse", self.rmse, on_step=True, on_epoch=True)
            self.log("averaged", value.detach(), on_epoch=True, on_step=False)
            steps.append((float(value.detach()), float(rmse(p, y).detach())))
            return value  # its gradient trains

        def validation_step(self, batch: Any, _: int) -> None:
            self.val_rmse.update(*self.predicted("val", batch))
            self.log("val_rmse", self.val_rmse)

    module, logged, validated = Module(), each_epoch(package, "train"), each_epoch(package, "val")
    start = module.net.weight.detach().clone()
    trainer(package, tmp_path, logged, validated).fit(module, loader(), loader(1, 32))
    assert not torch.equal(start, module.net.weight)
    assert len(logged.epochs) == len(validated.epochs) == 2
    for epoch, (trained, val) in enumerate(zip(logged.epochs, validated.epochs, strict=True)):
        expected = rmse(*module.of(f"train {epoch}"))
        torch.testing.assert_close(trained["rmse_epoch"], expected)
        assert abs(trained["averaged"] / expected - 1) > 0.01  # Lightning weights batches, and is off all the same
        seen = [part[-N:] for part in module.of(f"val {epoch}")]  # not those of the sanity check
        torch.testing.assert_close(val["val_rmse"], rmse(*seen))
    assert all(value == expected for value, expected in steps)


@pytest.mark.integration("lightning", "`self.log_dict` of a `MetricCollection`")
def test_a_collection_with_theirs(package: Any, tmp_path: Path) -> None:
    import torchmetrics

    class Module(base(package)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            ours = {"rmse": batchproof.exact(rmse), "mae_exact": batchproof.exact(mae)}
            self.both = torchmetrics.MetricCollection({**ours, "mae": torchmetrics.MeanAbsoluteError()}, prefix="val/")

        def validation_step(self, batch: Any, _: int) -> None:
            self.both(*self.predicted("val", batch))
            self.log_dict(self.both)

    module = Module()
    (logged,) = trainer(package, tmp_path).validate(module, loader(), verbose=False)
    p, y = module.of("val 0")
    expected = {"val/rmse": rmse(p, y), "val/mae": mae(p, y), "val/mae_exact": mae(p, y)}
    assert logged == pytest.approx({key: float(value) for key, value in expected.items()})


@pytest.mark.integration("lightning", "functions of arrays that return a Python number, as scikit-learn's")
def test_a_score_of_scikit_learn(package: Any, tmp_path: Path) -> None:
    from sklearn.metrics import f1_score

    def f1(p: Tensor, y: Tensor) -> float:
        return float(f1_score(y.numpy() > 0, p.numpy() > 0, average="macro"))

    class Module(base(package)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.f1 = batchproof.exact(f1)

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.f1.update(*self.predicted("test", batch))
            self.log("f1", self.f1)

    module = Module()
    (logged,) = trainer(package, tmp_path).test(module, loader(), verbose=False)
    p, y = module.of("test 0")
    assert logged["f1"] == pytest.approx(f1_score(y > 0, p > 0, average="macro"), rel=1e-6)


@pytest.mark.integration("lightning", "`EarlyStopping` and `ModelCheckpoint` on an exact value")
def test_checkpoints_are_chosen_by_it(package: Any, tmp_path: Path) -> None:
    class Module(base(package)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rmse = batchproof.exact(rmse)

        def validation_step(self, batch: Any, _: int) -> None:
            self.rmse.update(*self.predicted("val", batch))
            self.log("val_rmse", self.rmse)

    module = Module()
    best = package.callbacks.ModelCheckpoint(tmp_path, monitor="val_rmse", mode="min")
    stop = package.callbacks.EarlyStopping("val_rmse", patience=1)
    fitted = trainer(package, tmp_path, best, stop, enable_checkpointing=True, max_epochs=3)
    fitted.fit(module, loader(), loader(1))
    values = [rmse(*(part[-N:] for part in module.of(f"val {epoch}"))) for epoch in range(fitted.current_epoch)]
    torch.testing.assert_close(best.best_model_score, min(values))
    saved = torch.load(best.best_model_path, weights_only=True)
    assert saved["state_dict"].keys() == {"net.weight", "net.bias"}
    again = Module.load_from_checkpoint(best.best_model_path)
    (logged,) = trainer(package, tmp_path).validate(again, loader(1), verbose=False)
    assert logged["val_rmse"] == pytest.approx(float(min(values)))


@pytest.mark.integration("lightning", "`persistent` states in a checkpoint within an epoch")
def test_a_checkpoint_within_an_epoch(package: Any, tmp_path: Path) -> None:
    class Module(base(package)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rmse = batchproof.exact(rmse)
            if isinstance(self.rmse, nn.Module):
                self.rmse.persistent(True)

        def training_step(self, batch: Any, index: int) -> Any:
            p, y = self.predicted("train", batch)
            self.rmse.update(p, y)
            if index == 2:
                self.trainer.save_checkpoint(tmp_path / "within.ckpt")
            return nn.functional.mse_loss(p, y)

    module = Module()
    trainer(package, tmp_path, max_epochs=1).fit(module, loader())
    other = Module.load_from_checkpoint(tmp_path / "within.ckpt")
    assert other.rmse.n_samples == 3 * SIZE
    for p, y in module.seen["train 0"][3:]:
        other.rmse.update(p, y)
    torch.testing.assert_close(other.rmse.compute(), rmse(*module.of("train 0")))


@pytest.mark.integration("lightning", "`precision` of the module: sums stay in double precision")
def test_a_module_in_half_precision(package: Any, tmp_path: Path) -> None:
    class Module(base(package)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.huber = batchproof.exact(nn.HuberLoss())

        def validation_step(self, batch: Any, _: int) -> None:
            p, y = self.predicted("val", batch)
            self.huber.update(p.float(), y.float())
            self.log("huber", self.huber)

    module = Module()
    (logged,) = trainer(package, tmp_path, precision="bf16-true").validate(module, loader(), verbose=False)
    p, y = module.of("val 0")
    assert logged["huber"] == pytest.approx(float(nn.functional.huber_loss(p, y.float())), rel=1e-6)


def test_one_that_is_no_attribute_is_refused_by_lightning(package: Any, tmp_path: Path) -> None:
    class Module(base(package)):  # type: ignore[misc]
        def validation_step(self, batch: Any, _: int) -> None:
            self.log("rmse", batchproof.exact(rmse))

    with pytest.raises(Exception, match="attribute"):
        trainer(package, tmp_path).validate(Module(), loader(), verbose=False)


# ------------------------------------------------------------------ the callback


def reporting(package: Any, fn: Any = rmse) -> Any:
    class Module(base(package)):  # type: ignore[misc]
        def training_step(self, batch: Any, _: int) -> Any:
            p, y = self.predicted("train", batch)
            return {"loss": nn.functional.mse_loss(p, y), "pred": p.detach(), "real": y}

        def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
            p, y = self.predicted(f"val{dataloader_idx}", batch)
            self.log("val_rmse", rmse(p, y))

        def test_step(self, batch: Any, batch_idx: int) -> Any:
            p, y = self.predicted("test", batch)
            self.log("test_rmse", rmse(p, y))
            return {"pred": p, "real": y}

    return Module()


@pytest.mark.integration("lightning", "a callback, with no change in the module: exact values beside its averages")
def test_the_callback_reports_each_stage(package: Any, tmp_path: Path) -> None:
    from batchproof.integrations.lightning import ExactMetrics

    module, logged = reporting(package), each_epoch(package, "train")
    of_steps = ExactMetrics({"rmse": rmse}, lambda out, batch: (out["pred"], out["real"]), stages=("train", "test"))
    of_module = ExactMetrics({"rmse": rmse, "": both}, lambda p, batch: {"p": p, "y": batch[1]}, forward=True,
                             stages=("val",), name="{stage}/exact {name}")  # fmt: skip
    runs = trainer(package, tmp_path, of_steps, of_module, logged)
    runs.fit(module, loader(), loader(1))
    for epoch, values in enumerate(logged.epochs):
        torch.testing.assert_close(values["train_rmse_exact"].float(), rmse(*module.of(f"train {epoch}")))
        p, y = (part[-N:] for part in module.of(f"val0 {epoch}"))
        torch.testing.assert_close(values["val/exact rmse"].float(), rmse(p, y))
        torch.testing.assert_close(values["val/exact ['mae']"].float(), mae(p, y))
        assert abs(values["val_rmse"] / values["val/exact rmse"] - 1) > 0.01
    (tested,) = runs.test(module, loader(), verbose=False)
    assert tested["test_rmse_exact"] == pytest.approx(float(rmse(*module.of("test 2"))))
    assert not module._forward_hooks


def test_the_callback_tells_loaders_apart(package: Any, tmp_path: Path) -> None:
    from batchproof.integrations.lightning import ExactMetrics

    module = reporting(package)
    exact = ExactMetrics({"rmse": batchproof.exact(rmse, state="rows")}, lambda p, b: (p, b[1]), forward=True)
    runs = trainer(package, tmp_path, exact)
    runs.validate(module, [loader(), loader(1)], verbose=False)
    for index in range(2):
        value = runs.callback_metrics[f"val_rmse_exact/dataloader_idx_{index}"]
        torch.testing.assert_close(value.float(), rmse(*module.of(f"val{index} 0")))


def test_an_exact_value_can_stop_training(package: Any, tmp_path: Path) -> None:
    from batchproof.integrations.lightning import ExactMetrics

    exact = ExactMetrics({"rmse": rmse}, lambda p, b: (p, b[1]), forward=True, stages=("val",))
    best = package.callbacks.ModelCheckpoint(tmp_path, monitor="val_rmse_exact")
    runs = trainer(package, tmp_path, exact, best, enable_checkpointing=True)
    module = reporting(package)
    runs.fit(module, loader(), loader(1))
    values = [rmse(*(part[-N:] for part in module.of(f"val0 {epoch}"))) for epoch in range(2)]
    torch.testing.assert_close(best.best_model_score.float(), min(values))


def test_what_the_callback_cannot_read_is_said(package: Any, tmp_path: Path) -> None:
    from batchproof.integrations.lightning import ExactMetrics

    exact = ExactMetrics({"rmse": rmse}, lambda out, batch: (out["pred"], batch[1]))
    with pytest.raises(BatchproofError, match="the step returned nothing; with forward=True"):
        trainer(package, tmp_path, exact).validate(reporting(package), loader(), verbose=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({}, print), "functions by name"),
        ((rmse, print), "functions by name"),
        (({"rmse": 3}, print), "a function or a module, not int"),
        (({"rmse": rmse}, "pred"), "inputs must be a function"),
    ],
)
def test_bad_input(arguments: Any, words: str) -> None:
    from batchproof.integrations.lightning import ExactMetrics

    with pytest.raises(BatchproofError, match=words):
        ExactMetrics(*arguments)


def test_a_stage_that_is_none() -> None:
    from batchproof.integrations.lightning import ExactMetrics

    with pytest.raises(BatchproofError, match="expected a tuple of 'train', 'val' and 'test'"):
        ExactMetrics({"rmse": rmse}, print, stages=("validation",))  # type: ignore[arg-type]


# ------------------------------------------------------------------ two processes


@pytest.fixture(scope="module", params=["lightning.pytorch", pytest.param("pytorch_lightning", marks=pytest.mark.long)])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    pytest.importorskip(request.param)
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("lightning_ranks.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, str(script), str(folder), request.param], check=True, env=environment, capture_output=True
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.integration("lightning", "two processes with uneven data: `self.log`, `MetricCollection`, the callback")
def test_two_processes_log_the_value_on_the_samples_of_both(ranks: list[list[dict[str, Any]]]) -> None:
    assert [epoch["stage"] for epoch in ranks[0]] == ["val", "train"] * 2
    for epochs in zip(*ranks, strict=True):
        p, y = (torch.cat(parts) for parts in zip(*(epoch["seen"] for epoch in epochs), strict=True))
        assert len(p) == 49
        for logged in (epoch["logged"] for epoch in epochs):
            if epochs[0]["stage"] == "train":
                found, expected = ["train_rmse_epoch", "train_rmse_exact"], [rmse(p, y)] * 2
            else:
                found = ["val_rmse", "val_rmse_exact", "val_mae", "val_median", "val_median_exact"]
                expected = [rmse(p, y), rmse(p, y), mae(p, y), (p - y).abs().median(), (p - y).abs().median()]
                assert abs(logged["val_averaged"] / rmse(p, y) - 1) > 0.001
            torch.testing.assert_close([logged[key].float() for key in found], expected)


# ------------------------------------------------------------------ what lint makes of an average

AVERAGED = """\
import torch
import torchmetrics


def rmse(p, y):
    return torch.sqrt(torch.mean((p - y) ** 2))


class Averaged(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)
        self.f1 = torchmetrics.classification.BinaryF1Score()

    def validation_step(self, batch, batch_idx):
        p, y = self.net(batch[0])[:, 0], batch[1]
        self.log("rmse", rmse(p, y))
        self.log("f1", self.f1(p, y > 0))
"""


@pytest.mark.integration(
    "lightning", "`lint --fix` of `self.log(name, rmse(p, y))` and of `self.log(name, self.f1(p, y))`"
)
def test_what_lint_writes_is_exact(package: Any, tmp_path: Path) -> None:
    from batchproof.scripts.lint.one_file import repaired

    fixed, linted = repaired("module.py", AVERAGED.encode())
    assert (linted.fixed, linted.findings) == (2, ())

    def logged(source: str, size: int) -> dict[str, float]:
        namespace: dict[str, Any] = {"__name__": "module", "L": package}
        exec(compile(source, "module.py", "exec"), namespace)
        torch.manual_seed(0)
        model = namespace["Averaged"]()
        (found,) = trainer(package, tmp_path).validate(model, loader(size=size), verbose=False)
        return dict(found)

    whole = logged(AVERAGED, N)
    assert logged(fixed.decode(), SIZE) == pytest.approx(whole, rel=1e-6)
    assert logged(AVERAGED, SIZE) != pytest.approx(whole, rel=1e-2)
