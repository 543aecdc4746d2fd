# keras#16285, tensorflow#28956: the loss is 1/x on x GPUs. Losses averaged in place, as charlesCXK/TorchSemiSeg has them.
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel as DDP


def train(model, loader, optimizer, world_size):
    model = DDP(model)
    for x, y in loader:
        loss = F.mse_loss(model(x), y) / world_size  # finds: BP603
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def train_on_the_mean(model, loader, optimizer, world_size):
    model = DDP(model)
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        dist.all_reduce(loss)  # finds: BP603
        loss /= world_size
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def train_right(model, loader, optimizer, world_size):
    model = DDP(model)
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        shown = loss.detach().clone()
        dist.all_reduce(shown)
        print(shown / world_size)


def train_on_all_tokens(model, loader, optimizer, world_size):
    model = DDP(model)
    for x, y, mask in loader:
        tokens = mask.sum()
        dist.all_reduce(tokens)
        loss = (F.cross_entropy(model(x), y, reduction="none") * mask).sum() * world_size / tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
