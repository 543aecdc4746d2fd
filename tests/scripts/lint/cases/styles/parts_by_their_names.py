import lightning as L

from scores import dice_and_losses


class Module(L.LightningModule):
    def validation_step(self, batch, batch_idx):
        x, y = batch
        dice, bce_loss = dice_and_losses(self(x), y)
        self.log("val_dice", dice)  # finds: BP101
        self.log("val_bce", bce_loss)
