"""A regression in pytorch_lightning with one step for both phases, whose steps log a root mean square error."""

import sys

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset


def rmse(prediction, target):
    return torch.sqrt(torch.mean((prediction - target) ** 2))


class Regressor(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x).squeeze(1)

    def shared_step(self, batch, stage):
        x, y = batch
        prediction = self(x)
        loss = torch.nn.functional.mse_loss(prediction, y)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        self.log(f"{stage}_rmse", loss.sqrt(), on_step=False, on_epoch=True, batch_size=x.size(0))
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        return self.shared_step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 16
seed_everything(0)
x = torch.randn(100, 3)
y = x.sum(1) + torch.randn(100)
data = TensorDataset(x, y)
model = Regressor()
trainer = Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(data, batch_size, shuffle=True), DataLoader(data, batch_size))
print({name: round(float(value), 6) for name, value in trainer.callback_metrics.items()})
