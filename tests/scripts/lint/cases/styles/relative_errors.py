import lightning as L


class Module(L.LightningModule):
    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("rse", RSE(self(x), y))  # finds: BP101
        self.log("mse", MSE(self(x), y))
