import torch.nn.functional as F


def evaluate(model, loader):
    losses = []
    sizes = []
    for x, y in loader:
        losses.append(F.mse_loss(model(x), y).item())
        sizes.append(len(y))
    return sum(v * n for v, n in zip(losses, sizes)) / sum(sizes)
