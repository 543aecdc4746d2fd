# The same with set_epoch.
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


def train(model, optimizer, train_set):
    train_sampler = DistributedSampler(train_set)
    loader = DataLoader(train_set, batch_size=32, sampler=train_sampler)
    for epoch in range(10):
        train_sampler.set_epoch(epoch)
        for x, y in loader:
            F.mse_loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
