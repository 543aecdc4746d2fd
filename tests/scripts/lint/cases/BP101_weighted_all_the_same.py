# Weighting a root by the batch's size does not make it the root over all samples.
import torch
import torch.nn.functional as F


def evaluate(model, loader):
    total, n = 0.0, 0
    for x, y in loader:
        loss = torch.sqrt(F.mse_loss(model(x), y))
        total += loss.item() * x.size(0)  # finds: BP101
        n += x.size(0)
    return total / n
