"""How well predictions fit, in two numbers: `batchproof score examples/predictions --fn examples/fit.py:r2`."""

import torch


def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))


def r2(pred, real):
    return 1 - torch.sum((real - pred) ** 2) / torch.sum((real - real.mean()) ** 2)
