from torch import nn


def evaluate(model, loader):
    criterion = nn.L1Loss()
    total, batches = 0, 0
    n_samples = 0
    for i, batch in enumerate(loader):
        x, y = batch
        loss = criterion(model(x), y)
        total = total + loss.item() * len(y)
        n_samples += len(y)
        batches += 1
    total /= n_samples
    return total
