# One epoch has one order.
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader


def train(model, dataset, optimizer):
    sampler = torch.utils.data.distributed.DistributedSampler(dataset)
    for epoch in range(1):
        for x, y in DataLoader(dataset, batch_size=32, sampler=sampler):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
