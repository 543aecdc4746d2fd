import torch.nn.functional as F


def batches(x, y, bs):
    for i in range(0, len(x), bs):
        yield x[i : i + bs], y[i : i + bs]


def evaluate(model, X, Y):
    total, k = 0, 0
    for xb, yb in batches(X, Y, 64):
        total += F.mse_loss(model(xb), yb).item()  # finds: BP201
        k += 1
    return total / k
