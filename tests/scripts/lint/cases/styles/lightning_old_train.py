import pytorch_lightning as pl
import torch.nn.functional as F


class M(pl.LightningModule):
    def training_epoch_end(self, outputs):
        loss = sum(o["loss"] for o in outputs) / len(outputs)  # finds: BP201
        self.log("e", loss)

    def training_step(self, batch, i):
        x, y = batch
        return {"loss": F.mse_loss(self(x), y)}
