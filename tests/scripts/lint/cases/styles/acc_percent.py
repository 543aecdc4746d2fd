import numpy as np


def accuracy(out, y):
    return 100.0 * (out.argmax(1) == y).float().mean()


def evaluate(model, loader):
    acc = []
    for x, y in loader:
        acc.append(accuracy(model(x), y).item())  # finds: BP201
    print("acc", np.mean(acc), "+-", np.std(acc))
