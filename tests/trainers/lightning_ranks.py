"""What two ranks of a Lightning trainer log of uneven data, saved for the tests to look at."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import batchproof

#: Samples of each rank.
SHARES = (37, 12)
BATCH = 8


def rmse(p: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(torch.mean((p - y) ** 2))


def median(p: Tensor, y: Tensor) -> float:
    return float((p - y).abs().median())


def samples(rank: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(SHARES[rank], 3, generator=generator) * (1 + rank)
    return TensorDataset(x, x.sum(1) + torch.randn(SHARES[rank], generator=generator))


def module(package: Any) -> Any:
    import torchmetrics

    class Regressor(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Linear(3, 1)
            self.train_rmse = batchproof.exact(rmse)
            self.median = batchproof.exact(median)
            self.both = torchmetrics.MetricCollection(
                {"rmse": batchproof.exact(rmse), "mae": torchmetrics.MeanAbsoluteError()}, prefix="val_"
            )
            self.seen: dict[str, list[Any]] = {"train": [], "val": []}

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 0]

        def training_step(self, batch: Any, _: int) -> Any:
            p, y = self(batch[0]), batch[1]
            self.seen["train"].append((p.detach(), y))
            self.train_rmse(p, y)
            self.log("train_rmse", self.train_rmse, on_step=True, on_epoch=True, sync_dist=True)
            return {"loss": nn.functional.mse_loss(p, y), "pred": p.detach()}

        def validation_step(self, batch: Any, _: int) -> None:
            p, y = self(batch[0]), batch[1]
            self.seen["val"].append((p, y))
            self.both.update(p, y)
            self.median.update(p, y)
            self.log_dict(self.both)
            self.log("val_median", self.median)
            self.log("val_averaged", rmse(p, y), sync_dist=True)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    return Regressor()


def main(folder: Path, package: Any) -> None:
    from batchproof.integrations.lightning import ExactMetrics

    class Logs(package.Callback):  # type: ignore[misc]
        """Each epoch's samples on this rank; what was logged of them is known at the next event."""

        def __init__(self) -> None:
            self.epochs: list[dict[str, Any]] = []

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            pl_module.seen["train"] = []

        def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            pl_module.seen["val"] = []

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                self.keep("val", trainer, pl_module)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.keep("train", trainer, pl_module)

        def keep(self, stage: str, trainer: Any, pl_module: Any) -> None:
            seen = [torch.cat(column) for column in zip(*pl_module.seen[stage], strict=True)]
            logged = {key: value.clone() for key, value in trainer.callback_metrics.items()}
            self.epochs.append({"stage": stage, "seen": seen, "logged": logged})

    logs = Logs()
    exact = ExactMetrics(
        {"rmse": rmse, "median": median}, lambda outputs, batch: (outputs, batch[1]), forward=True, stages=("val",)
    )
    of_steps = ExactMetrics({"rmse": rmse}, lambda outputs, batch: (outputs["pred"], batch[1]), stages=("train",))
    model = module(package)
    trainer = package.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, callbacks=[exact, of_steps, logs],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, log_every_n_steps=1, default_root_dir=folder,
    )  # fmt: skip

    class Data(package.LightningDataModule):  # type: ignore[misc]
        def train_dataloader(self) -> Any:  # as many batches on each rank, of other sizes
            rank = self.trainer.global_rank
            return DataLoader(samples(rank), batch_size=(10, 3)[rank])

        def val_dataloader(self) -> Any:  # five batches on one rank, two on the other
            return DataLoader(samples(self.trainer.global_rank), batch_size=BATCH)

        def teardown(self, stage: str) -> None:
            torch.save(logs.epochs, folder / f"{self.trainer.global_rank}.pt")

    trainer.fit(model, datamodule=Data())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), import_module(sys.argv[2]))
