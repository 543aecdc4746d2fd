import torch
import torch.nn.functional as F


def evaluate(model, loader):
    losses = []
    for x, y in loader:
        losses.append(F.cross_entropy(model(x), y, reduction="none"))
    return torch.cat(losses).mean()
