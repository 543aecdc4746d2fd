import numpy as np
import torch.nn.functional as F


def evaluate(model, loader):
    losses = []
    sizes = []
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        losses.append(loss.item())
        sizes.append(len(y))
    return np.average(losses, weights=sizes)
