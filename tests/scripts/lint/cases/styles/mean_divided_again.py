import torch.nn as nn


def train(model, loader):
    criterion, summed = nn.MSELoss(), nn.MSELoss(reduction="sum")
    twice, once = [], []
    for x, y in loader:
        loss = criterion(model(x), y)
        twice.append(loss.item() / len(y))  # finds: BP203
        once.append(summed(model(x), y).item() / len(y))  # finds: BP201
    return sum(twice) / len(twice), sum(once) / len(once)
