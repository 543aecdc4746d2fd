import torch
from track import Tracker
class Loop:
    def __init__(self, model, loader, loss, metrics):
        self.model, self.loader, self.loss, self.metrics = model, loader, loss, metrics
        self.seen = Tracker('loss', *[m.__name__ for m in metrics])
    def valid(self):
        self.seen.reset()
        with torch.no_grad():
            for x, y in self.loader:
                out = self.model(x)
                self.seen.update('loss', self.loss(out, y).item())  # finds: BP201
                for m in self.metrics:
                    self.seen.update(m.__name__, m(out, y))  # finds: BP201
        return self.seen.result()
