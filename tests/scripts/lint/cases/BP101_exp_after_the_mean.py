# The exponential is taken of the mean, once: only the short last batch is left.
import math

import torch.nn.functional as F


def evaluate(model, loader):
    total, n = 0.0, 0
    for x, y in loader:
        total += F.cross_entropy(model(x), y).item() * len(y)
        n += len(y)
    return math.exp(total / n)
