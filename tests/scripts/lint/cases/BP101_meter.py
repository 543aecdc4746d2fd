import torch
import torch.nn.functional as F


class AverageMeter:
    def __init__(self):
        self.reset()

    def reset(self):
        self.sum, self.count, self.avg = 0.0, 0, 0.0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def evaluate(model, loader):
    errors = AverageMeter()
    for x, y in loader:
        error = torch.sqrt(F.mse_loss(model(x), y))
        errors.update(error.item(), x.size(0))  # finds: BP101
    return errors.avg
