# ORNL/HydraGNN#116: each rank's total is divided by the number of samples of all ranks.
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


@torch.no_grad()
def validate(model, dataset, rank):
    loader = DataLoader(dataset, batch_size=32, sampler=DistributedSampler(dataset, shuffle=False, drop_last=True))
    total_error = 0.0
    for x, y in loader:
        total_error += F.l1_loss(model(x), y, reduction="sum").item()
    if rank == 0:
        print("error", total_error / len(dataset))  # finds: BP605


@torch.no_grad()
def validate_on_one_rank(model, dataset, rank):
    if rank != 0:
        return
    total_error = 0.0
    for x, y in DataLoader(dataset, batch_size=32):
        total_error += F.l1_loss(model(x), y, reduction="sum").item()
    print("error", total_error / len(dataset))
