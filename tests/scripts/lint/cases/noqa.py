import torch.nn.functional as F


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item()  # noqa: BP201
    again = 0.0
    for x, y in loader:
        again += F.mse_loss(model(x), y).item()  # noqa: E501, finds: BP201
    return total / len(loader), again / len(loader)
