import numpy as np


def test(model, test_loaders):
    accuracies = []
    for loader in test_loaders:
        right = count = 0
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum().item()
            count += len(y)
        accuracies.append(right / count)
    return np.mean(accuracies)


def within(model, loader):
    accuracies = []
    for x, y in loader:
        accuracies.append((model(x).argmax(1) == y).float().mean().item())  # finds: BP201
    return np.mean(accuracies)
