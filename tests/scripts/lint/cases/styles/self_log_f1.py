import lightning as L
import torch.nn.functional as F
from sklearn.metrics import f1_score


class M(L.LightningModule):
    def validation_step(self, batch, i):
        x, y = batch
        p = self(x)
        loss = F.cross_entropy(p, y)
        self.log("val_loss", loss)
        self.log("val_f1", f1_score(y.cpu(), p.argmax(1).cpu(), average="macro"))  # finds: BP101
