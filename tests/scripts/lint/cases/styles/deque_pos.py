from collections import deque


def train(model, loader, criterion):
    losses = deque([], 50)
    for i, (x, y) in enumerate(loader):
        losses.append(criterion(model(x), y).item())
        print(sum(losses) / len(losses))
