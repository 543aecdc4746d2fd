import torch.nn.functional as F


def evaluate(model, loader):
    mse = 0.0
    mae = 0.0
    for x, y in loader:
        guess = model(x)
        mse += F.mse_loss(guess, y).item()
        mae += F.l1_loss(guess, y).item()
    return mse / len(loader) + mae / len(loader)
