# Weighted by the batch's size: right.
import torch.nn.functional as F


class AverageMeter:
    def __init__(self):
        self.sum, self.count, self.avg = 0.0, 0, 0.0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def evaluate(model, loader):
    losses = AverageMeter()
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        losses.update(loss.item(), x.size(0))
    return losses.avg
