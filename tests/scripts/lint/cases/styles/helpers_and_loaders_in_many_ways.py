from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
import torchmetrics
from sklearn.metrics import f1_score, mean_squared_error
from torch.utils.data import DataLoader


def scores(out, y):
    p = out.argmax(1)
    return {"f1": f1_score(y, p, average="macro"), "acc": (p == y).float().mean().item()}


def one(net, loader):
    found = defaultdict(list)
    for x, y in loader:
        for k, v in scores(net(x), y).items():
            found[k].append(v)  # finds: BP101
    return {k: np.mean(v) for k, v in found.items()}


def two(net, loader):
    mean = torchmetrics.MeanMetric()
    for x, y in loader:
        mean.update(F.mse_loss(net(x), y))  # finds: BP201
    return mean.compute()


class DeviceLoader:
    def __init__(self, loader, device):
        self.loader, self.device = loader, device

    def __iter__(self):
        for batch in self.loader:
            yield [part.to(self.device) for part in batch]

    def __len__(self):
        return len(self.loader)


def three(net, data, device):
    total = 0.0
    loader = DeviceLoader(DataLoader(data, batch_size=32), device)
    for x, y in loader:
        total += F.mse_loss(net(x), y).item()  # finds: BP201
    return total / len(loader)


def four(net, loader, k):
    losses = torch.zeros(k)
    for i, (x, y) in enumerate(islice(loader, k)):
        losses[i] = F.mse_loss(net(x), y)  # finds: BP201
    return losses.mean()


def five(net, loader):
    f1 = 0
    for x, y in loader:
        out = net(x)
        metrics = scores(out, y)
        f1 += metrics["f1"]  # finds: BP101
    f1 /= len(loader)
    return f1


def six(net, loader):
    totals = Counter()
    for x, y in loader:
        totals["mse"] += mean_squared_error(y, net(x), squared=False)  # finds: BP101
        totals["n"] += 1
    return totals["mse"] / totals["n"]


def seven(net, loader):
    running = None
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(net(x), y).item()
        running = loss if running is None else running + loss  # finds: BP201
    return running / (i + 1)


def step(net, batch):
    x, y = batch
    return {"loss": F.mse_loss(net(x), y)}


def eight(net, loader):
    outputs = [step(net, batch) for batch in loader]  # finds: BP201
    return torch.stack([o["loss"] for o in outputs]).mean()


class Trainer:
    def __init__(self, net, train_set, val_set, bs):
        self.net = net
        self.val_loader = DataLoader(val_set, bs)
        self.history = {"val": []}

    def val_step(self, batch):
        x, y = batch
        return torch.sqrt(F.mse_loss(self.net(x), y))

    def validate(self):
        return [self.val_step(b).item() for b in self.val_loader]  # finds: BP101

    def fit(self):
        values = self.validate()
        self.history["val"].append(sum(values) / len(values))


def nine(net, loader):
    total = torch.tensor(0.0)
    for x, y in loader:
        total.add_(F.mse_loss(net(x), y))  # finds: BP201
    return total / len(loader)


def ten(net, loader):
    it = iter(loader)
    total = 0
    while True:
        try:
            x, y = next(it)
        except StopIteration:
            break
        total += F.mse_loss(net(x), y).item()  # finds: BP201
    return total / len(loader)


def eleven(net, x, y, bs=32):
    order = torch.randperm(len(x))
    losses = [F.mse_loss(net(x[order[i:i + bs]]), y[order[i:i + bs]]).item() for i in range(0, len(x), bs)]  # finds: BP201
    return np.mean(losses)


def twelve(net, loader):
    mse, mae, n = 0, 0, 0
    for x, y in loader:
        e = net(x) - y
        mse, mae, n = mse + (e ** 2).mean().item(), mae + e.abs().mean().item(), n + 1  # finds: BP201
    return mse / n, mae / n


def thirteen(net, loader):
    total = sum(F.mse_loss(net(x), y).item() for x, y in loader)  # finds: BP201
    return total / len(loader)


def fourteen(net, loader):
    results = []
    for batch in loader:
        results.append(step(net, batch))  # finds: BP201
    return {k: sum(r[k] for r in results) / len(results) for k in results[0]}


def fifteen(net, loader):
    results = []
    for batch in loader:
        results.append(step(net, batch))  # finds: BP201
    return {k: np.mean([r[k].item() for r in results]) for k in results[0].keys()}


def sixteen(net, data, bs):
    n = int(np.ceil(len(data) / bs))
    total = 0
    for b in range(n):
        part = data[b * bs: min((b + 1) * bs, len(data))]
        total += net.loss(part).mean().item()  # finds: BP201
    return total / n
