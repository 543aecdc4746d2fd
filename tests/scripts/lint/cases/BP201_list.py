import numpy as np
import torch.nn.functional as F


def evaluate(model, loader):
    losses = []
    for x, y in loader:
        losses.append(F.mse_loss(model(x), y).item())  # finds: BP201
    return np.mean(losses)
