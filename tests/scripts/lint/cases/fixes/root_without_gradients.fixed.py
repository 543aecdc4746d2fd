import torch
import torch.nn.functional as F
import batchproof


def rmse(pred, y):
    return F.mse_loss(pred, y) ** 0.5


def evaluate(model, loader):
    with torch.no_grad():
        exact_rmse = batchproof.exact(rmse)
        for x, y in loader:
            with torch.autocast("cpu", enabled=False):
                pred = model(x)
                loss = exact_rmse(pred, y)
    return exact_rmse.compute().item()
