import torch


def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        loss = rmse(model(x), y)
        total += loss.item()
    total = total / len(loader)
    if total > 0:
        print("loss", total)
    return total
