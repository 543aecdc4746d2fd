import torch
from torch import nn


class DiceLoss(nn.Module):
    def forward(self, p, t, eps=1.0):
        p = torch.sigmoid(p).view(-1)
        t = t.view(-1)
        inter = (p * t).sum()
        return 1 - (2 * inter + eps) / (p.sum() + t.sum() + eps)


def evaluate(model, loader):
    crit = DiceLoss()
    tot = 0
    for x, y in loader:
        tot += crit(model(x), y).item() * x.size(0)  # finds: BP102
    return tot / len(loader.dataset)
