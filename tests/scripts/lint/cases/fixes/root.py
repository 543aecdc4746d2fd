"""Scores a model."""

import torch


def rmse(pred, y):
    return torch.sqrt(((pred - y) ** 2).mean())


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += rmse(model(x), y).item()
    return total / len(loader)
