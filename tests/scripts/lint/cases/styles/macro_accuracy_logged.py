import lightning as L
import torchmetrics
from torch import nn


class Classifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.loss = nn.CrossEntropyLoss()
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(num_classes=3)
        self.micro = torchmetrics.classification.MulticlassAccuracy(num_classes=3, average="micro")

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", self.loss(logits, y))
        self.log("val_acc", self.accuracy(logits, y))  # finds: BP101
        self.log("val_micro", self.micro(logits, y))
        self.log("val_IoU", IoU(logits, y))  # finds: BP101
