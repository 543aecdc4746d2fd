import torch.nn.functional as F


def evaluate(model, loader):
    mse = 0.0
    n_samples = 0
    mae = 0.0
    for x, y in loader:
        guess = model(x)
        mse += F.mse_loss(guess, y).item() * len(y)
        n_samples += len(y)
        mae += F.l1_loss(guess, y).item() * len(y)
    return mse / n_samples + mae / n_samples
