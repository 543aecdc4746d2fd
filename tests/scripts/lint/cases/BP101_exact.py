# What batchproof itself recommends.
import torch

import batchproof


def rmse(pred, y):
    return torch.sqrt(((pred - y) ** 2).mean())


def train(model, loader, optimizer):
    metric = batchproof.exact(rmse)
    for x, y in loader:
        loss = metric(model(x), y)
        loss.backward()
        optimizer.step()
    print("rmse", metric.compute().item())
