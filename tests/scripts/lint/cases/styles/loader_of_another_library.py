import dgl.graphbolt as gb
import torch
import torch.nn.functional as F


def train(model, pipe, dataset):
    sampled, single = gb.DataLoader(pipe), torch.utils.data.DataLoader(dataset)
    total = one = 0
    for step, (x, y) in enumerate(sampled):
        total += F.mse_loss(model(x), y).item()  # finds: BP201
    for x, y in single:
        one += F.mse_loss(model(x), y).item()
    return total / (step + 1), one / len(single)
