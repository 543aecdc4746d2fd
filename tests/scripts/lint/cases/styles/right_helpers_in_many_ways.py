import numpy as np
import torch
import torch.nn.functional as F
import torchmetrics
from torch.utils.data import DataLoader


def one(net, loader):
    metric = torchmetrics.F1Score(task="multiclass", num_classes=3)
    for x, y in loader:
        metric.update(net(x), y)
    return metric.compute()


def two(net, loader):
    mean = torchmetrics.MeanMetric()
    for x, y in loader:
        mean.update(F.mse_loss(net(x), y), weight=len(x))
    return mean.compute()


def three(net, loader):
    preds, targets = [], []
    for x, y in loader:
        preds.extend(net(x).argmax(1).tolist())
        targets += y.tolist()
    return np.mean(np.array(preds) == np.array(targets))


def four(net, loader):
    correct = total = 0
    for x, y in loader:
        correct += (net(x).argmax(1) == y).sum().item()
        total += y.size(0)
    print("accuracy", 100 * correct / total)


def five(net, loader, epochs):
    history = []
    for epoch in range(epochs):
        total, n = 0.0, 0
        for x, y in loader:
            loss = F.mse_loss(net(x), y)
            loss.backward()
            total += loss.item() * len(x)
            n += len(x)
        history.append(total / n)
    return np.mean(history)


def six(net, texts):
    lengths = []
    for i in range(0, len(texts), 10):
        lengths.append(len(texts[i:i + 10]))
    return np.mean(lengths)


def seven(net, loader):
    confusion = torch.zeros(3, 3)
    for x, y in loader:
        for t, p in zip(y.view(-1), net(x).argmax(1).view(-1)):
            confusion[t.long(), p.long()] += 1
    return confusion.diag() / confusion.sum(1)


def eight(net, loader):
    grads = []
    for x, y in loader:
        loss = F.mse_loss(net(x), y)
        loss.backward()
        grads.append(sum(p.grad.norm().item() for p in net.parameters()))
    print("mean gradient norm", np.mean(grads))


def nine(net, data):
    loader = DataLoader(data, batch_size=1)
    total = 0.0
    for x, y in loader:
        total += torch.sqrt(F.mse_loss(net(x), y)).item()
    return total / len(loader)


def ten(net, loader):
    total, count = 0.0, 0
    for x, y in loader:
        losses = F.cross_entropy(net(x), y, reduction="none")
        for value in losses:
            total += value.item()
            count += 1
    return total / count


def eleven(tasks, model):
    scores = []
    for task in tasks:
        scores.append(model.evaluate(task))
    return np.mean(scores)


def twelve(model, x, heads):
    outs = []
    for part in x.chunk(heads, dim=-1):
        outs.append(model(part).mean())
    return torch.stack(outs).mean()


def thirteen(net, loader, classes):
    iou = {c: [0, 0] for c in classes}
    for x, y in loader:
        p = net(x).argmax(1)
        for c in classes:
            iou[c][0] += ((p == c) & (y == c)).sum().item()
            iou[c][1] += ((p == c) | (y == c)).sum().item()
    return np.mean([a / b for a, b in iou.values()])
