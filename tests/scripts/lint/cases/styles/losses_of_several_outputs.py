import torch


def deep_supervision(criterion, outputs, target):
    loss = 0.0
    for x in outputs:
        loss += criterion(x, target)
    loss /= len(outputs)
    return loss


def mean(values):
    values = iter(values)
    total = next(values)
    for n, value in enumerate(values, 2):
        total += value
    return total / n


def train(model, criterion, batches):
    total = 0.0
    for x in batches:
        loss = criterion(model(x), x)
        loss.backward()
        total += loss.item()  # finds: BP201
    return total / len(batches)
