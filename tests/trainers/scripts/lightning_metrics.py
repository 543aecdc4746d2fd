"""A Lightning module that logs a table, two loaders for validation, and metric objects, called and handed over."""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanSquaredError


class Regressor(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.metric = MeanSquaredError(squared=False)
        self.other = MeanSquaredError(squared=False)

    def forward(self, x):
        return self.layer(x).squeeze(1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = functional.mse_loss(self(x), y)
        self.log("last_batch", loss)
        return loss

    def evaluate(self, batch, stage):
        x, y = batch
        prediction = self(x)
        results = {f"{stage}_mse": functional.mse_loss(prediction, y), f"{stage}_mae": (prediction - y).abs().mean()}
        self.log_dict(results, on_epoch=True)
        self.log(f"{stage}_called", self.metric(prediction, y))
        self.other.update(prediction, y)
        self.log(f"{stage}_object", self.other)
        self.log(f"{stage}_largest", functional.l1_loss(prediction, y), reduce_fx="max")

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluate(batch, "test")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


seed_everything(0)
x = torch.randn(100, 3)
y = x.sum(1) + torch.randn(100)
data = TensorDataset(x, y)
trainer = Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    val_check_interval=0.5,
)
model = Regressor()
trainer.fit(model, DataLoader(data, 16), [DataLoader(data, 32), DataLoader(data, 30)])
trainer.test(model, DataLoader(data, 30), verbose=False)
print({name: float(value) for name, value in trainer.callback_metrics.items()})
