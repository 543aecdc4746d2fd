from collections import deque

import numpy as np


def train(model, loader, criterion):
    losses = deque(maxlen=100)
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        losses.append(loss.item())
        if i % 100 == 0:
            print(np.mean(losses))
