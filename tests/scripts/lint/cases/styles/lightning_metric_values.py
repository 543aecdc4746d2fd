# What a metric object gives for a batch, logged in its place: Lightning averages that. Logged itself it is computed once.
import lightning as L
import torch
import torchmetrics
from torch import nn
from torchmetrics.functional import mean_absolute_error, r2_score

import batchproof


def rmse(p, y):
    return torch.sqrt(torch.mean((p - y) ** 2))


class Regressor(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.rmse = batchproof.exact(rmse)
        self.mse = batchproof.exact(nn.functional.mse_loss)
        self.own = batchproof.exact(score_of_mine)
        self.f1 = torchmetrics.F1Score(task="binary")
        self.several = torchmetrics.MetricCollection({"f1": torchmetrics.F1Score(task="binary")}, prefix="val_")
        self.means = torchmetrics.MetricCollection([torchmetrics.MeanAbsoluteError(), torchmetrics.MeanSquaredError()])
        self.losses = torchmetrics.MeanMetric()

    def training_step(self, batch, batch_idx):
        x, y = batch
        p = self(x)
        loss = self.rmse(p, y)
        self.log("train_rmse", loss)  # by step, as it is
        self.log("train_rmse_epoch", self.rmse(p, y), on_epoch=True)  # finds: BP101
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        p = self(x)
        self.log("rmse", self.rmse(p, y))  # finds: BP101
        self.log("mse", self.mse(p, y))
        self.log(name="by_name", value=rmse(p, y))  # finds: BP101
        self.log_dict(dictionary={"by_name": rmse(p, y)})  # finds: BP101
        self.log("own", self.own(p, y))  # finds: BP101
        f1 = self.f1(p, y)
        self.log("f1", f1, prog_bar=True)  # finds: BP101
        self.log_dict(self.several(p, y))  # finds: BP101
        self.log_dict(self.means(p, y))
        out = self.several(p, y)
        self.log("f1_of_several", out["f1"])  # finds: BP101
        self.log("r2", r2_score(p, y))  # finds: BP101
        self.log("mae", mean_absolute_error(p, y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        p = self(x)
        self.rmse(p, y)
        self.log("rmse", self.rmse)
        self.f1.update(p, y)
        self.log("f1", self.f1, on_step=False, on_epoch=True)
        self.several.update(p, y)
        self.log_dict(self.several)
        self.losses(nn.functional.mse_loss(p, y), len(y))
        self.log("loss", self.losses)

    def on_test_epoch_end(self):
        self.log("rmse_again", self.rmse.compute())
        self.log_dict(self.several.compute())
