from torch import nn


def evaluate(model, loader):
    criterion = nn.L1Loss()
    total, batches = 0, 0
    for i, batch in enumerate(loader):
        x, y = batch
        loss = criterion(model(x), y)
        total = total + loss.item()
        batches += 1
    total /= (i + 1)
    return total
