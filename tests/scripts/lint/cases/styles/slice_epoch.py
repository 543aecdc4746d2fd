import numpy as np


def train(model, loader, criterion):
    losses = []
    for epoch in range(9):
        for i, (x, y) in enumerate(loader):
            losses.append(criterion(model(x), y).item())  # finds: BP201
        print(np.mean(losses[-len(loader) :]))
