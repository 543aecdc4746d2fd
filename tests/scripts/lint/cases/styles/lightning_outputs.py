import pytorch_lightning as pl
import torch
import torch.nn.functional as F


class M(pl.LightningModule):
    def validation_step(self, batch, batch_idx):
        x, y = batch
        y_hat = self(x)
        return {"val_loss": F.cross_entropy(y_hat, y), "pred": y_hat, "y": y}

    def validation_epoch_end(self, outputs):
        avg_loss = torch.stack([x["val_loss"] for x in outputs]).mean()  # finds: BP201
        preds = torch.cat([x["pred"] for x in outputs])
        self.log("val_loss", avg_loss)
