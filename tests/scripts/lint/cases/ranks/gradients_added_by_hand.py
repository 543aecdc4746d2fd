# Where the script adds up gradients itself, and there is no wrapper that averages them, the division is right.
import torch.distributed as dist
import torch.nn.functional as F


def train(model, loader, optimizer, world_size):
    for x, y in loader:
        loss = F.mse_loss(model(x), y) / world_size
        loss.backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
        optimizer.step()
        optimizer.zero_grad()
