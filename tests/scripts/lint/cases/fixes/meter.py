import torch.nn.functional as F


class AverageMeter(object):
    """Keeps a mean."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.val = 0
        self.avg = 0
        self.sum = 0
        self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def evaluate(model, loader):
    losses = AverageMeter()
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        losses.update(loss.item())
    return losses.avg
