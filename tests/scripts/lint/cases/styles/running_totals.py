import numpy as np


def train(model, loader, criterion):
    train_loss, shown = 0, []
    correct = total = 0
    accs = []
    for i, (x, y) in enumerate(loader):
        p = model(x)
        train_loss += criterion(p, y).item()  # finds: BP201
        correct += (p.argmax(1) == y).sum().item()
        total += len(y)
        accs.append(correct / total)  # finds: BP204
    return train_loss / len(loader), np.mean(accs)
