import torch


def metrics(p, y):
    mae = torch.mean(torch.abs(p - y))
    rmse = torch.sqrt(torch.mean((p - y) ** 2))
    mape = torch.mean(torch.abs((p - y) / y))
    return mae, rmse, mape


def evaluate(model, loader):
    a = b = c = 0
    n = 0
    for x, y in loader:
        mae, rmse, mape = metrics(model(x), y)
        bs = len(x)
        a += mae.item() * bs
        b += rmse.item() * bs  # finds: BP101
        c += mape.item() * bs
        n += bs
    return a / n, b / n, c / n
