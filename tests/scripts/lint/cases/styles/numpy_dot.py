import numpy as np
import torch.nn.functional as F


def evaluate(model, loader):
    losses, sizes = [], []
    for x, y in loader:
        losses.append(F.mse_loss(model(x), y).item())
        sizes.append(len(x))
    return np.dot(losses, sizes) / np.sum(sizes)
