import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import torchmetrics
from torch.utils.data import DataLoader


def batch_loss(net, x, y):
    return F.mse_loss(net(x), y)


def helper(net, loader):
    totals = {"loss": 0.0, "mae": 0.0}
    for x, y in loader:
        out = net(x)
        values = {"loss": F.mse_loss(out, y), "mae": (out - y).abs().mean()}
        for k in totals:
            totals[k] += values[k].item()  # finds: BP201
    return {k: v / len(loader) for k, v in totals.items()}


def frame(net, loader):
    rows = []
    for x, y in loader:
        out = net(x)
        rows.append({"loss": F.mse_loss(out, y).item(), "mae": F.l1_loss(out, y).item()})  # finds: BP201
    frame = pd.DataFrame(rows)
    print(frame["loss"].mean(), frame.mean())


def series(net, loader):
    losses = []
    for x, y in loader:
        losses.append(F.mse_loss(net(x), y).item())  # finds: BP201
    return pd.Series(losses).mean()


class Callback:
    def on_epoch_begin(self):
        self.losses = []
        self.total, self.n = 0.0, 0

    def on_batch_end(self, loss):
        self.losses.append(loss.item())
        self.total += loss.item()
        self.n += 1

    def on_epoch_end(self):
        print(np.mean(self.losses), self.total / self.n)


class Learner:
    def fit(self, net, loader):
        self.cb = Callback()
        self.cb.on_epoch_begin()
        for x, y in loader:
            loss = F.mse_loss(net(x), y)
            loss.backward()
            self.cb.on_batch_end(loss)  # finds: BP201
        self.cb.on_epoch_end()


class MyF1(torchmetrics.F1Score):
    pass


def subclass(net, loader):
    f1 = MyF1(task="multiclass", num_classes=3)
    scores = []
    for x, y in loader:
        scores.append(f1(net(x), y).item())  # finds: BP101
    return np.mean(scores)


def add_up(total, value):
    return total + value


def readded(net, loader):
    total = 0.0
    for x, y in loader:
        total = add_up(total, F.mse_loss(net(x), y).item())  # finds: BP201
    return total / len(loader)


def running(net, loader):
    seen, total, epoch = 0.0, 0, 0.0
    for i, (x, y) in enumerate(loader):
        seen += F.mse_loss(net(x), y).item()
        total += 1
        epoch += seen / total  # finds: BP204
    return epoch / len(loader)


def update_total(stats, value):
    stats["sum"] += value
    stats["n"] += 1
    return stats["sum"] / stats["n"]


def in_helper(net, loader):
    stats = {"sum": 0.0, "n": 0}
    for x, y in loader:
        mean = update_total(stats, F.mse_loss(net(x), y).item())  # finds: BP201
    return mean


def printed_sum(net, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(net(x), y).item()  # finds: BP206
    print("loss", total)


def inner(net, loader):
    per_class = [[] for _ in range(3)]
    for x, y in loader:
        out = net(x)
        for c in range(3):
            per_class[c].append(F.mse_loss(out[:, c], y[:, c]).item())  # finds: BP201
    return [np.mean(v) for v in per_class]


def setdefault(net, loader):
    logs = {}
    for x, y in loader:
        for k, v in {"a": F.mse_loss(net(x), y)}.items():
            logs.setdefault(k, []).append(v.item())  # finds: BP201
    return {k: np.mean(v) for k, v in logs.items()}


def get(net, loader):
    logs = {}
    for x, y in loader:
        logs["a"] = logs.get("a", 0) + F.mse_loss(net(x), y).item()  # finds: BP201
    return logs["a"] / len(loader)


def listed(net, loader):
    sums = [0.0, 0.0]
    for x, y in loader:
        out = net(x)
        sums[0] += F.mse_loss(out, y).item()  # finds: BP201
        sums[1] += F.l1_loss(out, y).item()  # finds: BP201
    return sums[0] / len(loader), sums[1] / len(loader)


def arr(net, loader):
    sums = np.zeros(2)
    for x, y in loader:
        out = net(x)
        sums += np.array([F.mse_loss(out, y).item(), F.l1_loss(out, y).item()])  # finds: BP201
    return sums / len(loader)


def correct(net, loader, batch_size):
    right = 0
    for x, y in loader:
        out = net(x).argmax(1)
        for i in range(len(y)):
            if out[i] == y[i]:
                right += 1  # finds: BP202
    return right / (len(loader) * batch_size)
