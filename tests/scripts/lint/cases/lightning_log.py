# Lightning weights what is logged by the batch's size, which does not repair a root.
import torch
import torch.nn.functional as F
import pytorch_lightning as pl


class Regressor(pl.LightningModule):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.mse_loss(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_mse", F.mse_loss(self(x), y), on_epoch=True)
        self.log("val_rmse", torch.sqrt(F.mse_loss(self(x), y)), on_epoch=True)  # finds: BP101
