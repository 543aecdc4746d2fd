import torch
import torch.nn.functional as F


def evaluate(model, loader):
    losses = torch.tensor([])
    for x, y in loader:
        losses = torch.cat([losses, F.cross_entropy(model(x), y).unsqueeze(0)])  # finds: BP201
    return losses.mean()
