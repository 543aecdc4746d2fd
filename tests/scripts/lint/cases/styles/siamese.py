import torch
import torch.nn.functional as F
from torch import nn


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, o1, o2, label):
        d = F.pairwise_distance(o1, o2)
        return torch.mean((1 - label) * d**2 + label * torch.clamp(self.margin - d, min=0.0) ** 2)


def evaluate(model, loader):
    crit = ContrastiveLoss()
    total, n = 0, 0
    for a, b, label in loader:
        total += crit(model(a), model(b), label).item() * len(a)
        n += len(a)
    return total / n
