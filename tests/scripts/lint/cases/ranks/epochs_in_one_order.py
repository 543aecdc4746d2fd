# PyTorch's page on DistributedSampler: without set_epoch the same ordering will be always used.
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


def train(model, optimizer, train_set, val_set):
    train_sampler = DistributedSampler(train_set)  # finds: BP604
    loader = DataLoader(train_set, batch_size=32, sampler=train_sampler)
    for epoch in range(10):
        for x, y in loader:
            F.mse_loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()


def train_in_order(model, optimizer, train_set):
    loader = DataLoader(train_set, batch_size=32, sampler=DistributedSampler(train_set, shuffle=False))
    for epoch in range(10):
        for x, y in loader:
            F.mse_loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
