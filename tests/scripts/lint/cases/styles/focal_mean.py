import torch
import torch.nn.functional as F
from torch import nn


class FocalLoss(nn.Module):
    def forward(self, inputs, targets):
        ce = F.cross_entropy(inputs, targets, reduction="none")
        pt = torch.exp(-ce)
        return ((1 - pt) ** 2 * ce).mean()


def evaluate(model, loader):
    crit = FocalLoss()
    t, n = 0.0, 0
    for x, y in loader:
        t += crit(model(x), y).item() * x.size(0)
        n += x.size(0)
    return t / n
