# PsycheFoundation/nousnet#274: shares are unequal, and the reported loss changes with the number of ranks.
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset


def evaluate(model, dataset, rank, world_size, meter):
    loader = DataLoader(Subset(dataset, range(rank, len(dataset), world_size)), batch_size=64)
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        dist.all_reduce(loss)  # finds: BP602
        meter.update(loss.item() / world_size, len(y))
    return meter.avg


def evaluate_right(model, dataset, rank, world_size):
    loader = DataLoader(Subset(dataset, range(rank, len(dataset), world_size)), batch_size=64)
    totals = torch.zeros(2)
    for x, y in loader:
        totals[0] += F.mse_loss(model(x), y, reduction="sum")
        totals[1] += len(y)
    dist.all_reduce(totals)
    return totals[0] / totals[1]
