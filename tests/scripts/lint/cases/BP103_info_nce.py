import torch
import torch.nn.functional as F


def info_nce(a, b):
    scores = a @ b.T / 0.1
    return F.cross_entropy(scores, torch.arange(len(a)))


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += info_nce(model(x), model(y)).item()  # finds: BP103
    return total / len(loader)
