import torch
import torch.distributed as dist


def evaluate(model, loader, criterion, device):
    loss_sum = torch.zeros(2)
    for x, y in loader:
        loss_sum[0] += criterion(model(x), y).item() * len(x)
        loss_sum[1] += len(x)
    dist.all_reduce(loss_sum)
    return (loss_sum[0] / loss_sum[1]).item()
