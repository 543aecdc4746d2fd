# lightgbm-org/LightGBM#7290: the distributed RMSE is the mean of the nodes' roots.
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F


def evaluate(model, loader):
    squares, n = 0.0, 0
    for x, y in loader:
        squares += F.mse_loss(model(x), y, reduction="sum").item()
        n += len(y)
    rmse = torch.tensor(math.sqrt(squares / n))
    dist.all_reduce(rmse, op=dist.ReduceOp.SUM)  # finds: BP601
    rmse /= dist.get_world_size()
    return rmse.item()


def evaluate_right(model, loader):
    squares, n = 0.0, 0
    for x, y in loader:
        squares += F.mse_loss(model(x), y, reduction="sum").item()
        n += len(y)
    totals = torch.tensor([squares, n])
    dist.all_reduce(totals, op=dist.ReduceOp.SUM)
    return math.sqrt(totals[0] / totals[1])
