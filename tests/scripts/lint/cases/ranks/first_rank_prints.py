# cybertronai/transformer-xl#14, mindone#1496: the validation loss is the first rank's, those of the others are ignored.
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


def evaluate(model, loader):
    model.eval()
    total, n = 0.0, 0
    for x, y in loader:
        total += F.mse_loss(model(x), y, reduction="sum").item()
        n += len(y)
    return total / n


def main(model, test_set, rank):
    sampler = DistributedSampler(test_set, shuffle=False)  # finds: BP303
    loader = DataLoader(test_set, batch_size=32, sampler=sampler)
    error = evaluate(model, loader)
    if rank == 0:
        print(f"error {error:.4f}")  # finds: BP605


def main_right(model, test_set, rank):
    error = evaluate(model, DataLoader(test_set, batch_size=32))
    if rank == 0:
        print(f"error {error:.4f}")
