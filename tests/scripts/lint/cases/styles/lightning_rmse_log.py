import pytorch_lightning as pl
import torch
import torch.nn.functional as F


class M(pl.LightningModule):
    def training_step(self, batch, i):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_rmse", torch.sqrt(loss))
        self.log("train_rmse_epoch", torch.sqrt(loss), on_epoch=True)  # finds: BP101
        return loss

    def test_step(self, batch, i):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log_dict({"mse": loss, "rmse": torch.sqrt(loss)})  # finds: BP101
