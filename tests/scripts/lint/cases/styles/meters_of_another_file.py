from base import BaseTrainer


class Trainer(BaseTrainer):
    def _train_epoch(self, epoch):
        for x, y in self.data_loader:
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.train_metrics.update("loss", loss.item())  # finds: BP201
            self.train_metrics.update("accuracy", self.accuracy(x, y), len(y))
            self.bar.update(1)
            self.state.update({"loss": loss.item()})
        return self.train_metrics.result()
