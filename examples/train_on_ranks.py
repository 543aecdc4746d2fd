"""A regression on one process or several: what it prints should not depend on how many, and does.

`torchrun --standalone --nproc-per-node=2 examples/train_on_ranks.py --batch-size 16`
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def rmse(pred, real):
    return torch.sqrt(nn.functional.mse_loss(pred, real))


def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += rmse(model(x), y).item()
    return total / len(loader)


def mean_over_ranks(value):
    mean = torch.tensor(value)
    dist.all_reduce(mean)
    return mean.item() / dist.get_world_size()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32, help="of each process")
    batch_size = parser.parse_args().batch_size
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29531")
    dist.init_process_group("gloo")

    torch.manual_seed(0)
    x = torch.randn(613, 5)
    y = x @ torch.randn(5, 1) + torch.randn(613, 1) * x[:, :1].exp()
    data, held_out = TensorDataset(x[:512], y[:512]), TensorDataset(x[512:], y[512:])
    loader = DataLoader(data, batch_size, sampler=DistributedSampler(data))
    test_loader = DataLoader(held_out, batch_size, sampler=DistributedSampler(held_out, shuffle=False))

    model = DistributedDataParallel(nn.Linear(5, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01 * dist.get_world_size())
    train_loss = train(model, loader, optimizer)
    test_loss = mean_over_ranks(evaluate(model, test_loader))
    if dist.get_rank() == 0:
        print(f"train_loss {train_loss:.4f}   test_loss {test_loss:.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
