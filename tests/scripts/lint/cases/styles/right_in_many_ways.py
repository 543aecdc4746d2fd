import time
import numpy as np
import torch
import torch.nn.functional as F


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, v, n=1):
        self.sum += v * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


def throughput(net, loader):
    speed, batch_time = AverageMeter(), AverageMeter()
    end = time.time()
    for x, y in loader:
        out = net(x)
        batch_time.update(time.time() - end)
        speed.update(x.size(0) / (time.time() - end))
        end = time.time()
    print(speed.avg, batch_time.avg)


def throughput2(net, loader):
    n, t0 = 0, time.time()
    for x, y in loader:
        net(x)
        n += x.size(0)
    print(n / (time.time() - t0))


def cat(net, loader):
    values = []
    for x, y in loader:
        values.append(F.mse_loss(net(x), y, reduction="none").mean(1))
    return torch.cat(values).mean()


def never_used(net, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(net(x), y).item()
    average = total / len(loader)


def dice(pred, target):
    pred, target = pred.flatten(1), target.flatten(1)
    inter = (pred * target).sum(1)
    return ((2 * inter + 1) / (pred.sum(1) + target.sum(1) + 1)).sum()


def per_image(net, loader):
    total, n = 0.0, 0
    for x, y in loader:
        total += dice(net(x), y).item()
        n += len(x)
    return total / n


def per_class(net, loader, k):
    inter, union = np.zeros(k), np.zeros(k)
    for x, y in loader:
        p = net(x).argmax(1)
        for c in range(k):
            inter[c] += ((p == c) & (y == c)).sum().item()
            union[c] += ((p == c) | (y == c)).sum().item()
    return (inter / union).mean()


def tokens(net, loader, bpe):
    n_tokens, n_words = 0, 0
    for x, y in loader:
        n_tokens += x.numel()
        n_words += (y != 0).sum().item()
    print(n_tokens / n_words)


def per_image_dice(net, loader, dice_coefficient):
    dices = []
    for x, y in loader:
        out = net(x)
        for i in range(out.shape[0]):
            dices.append(dice_coefficient(out[i], y[i]))
    return np.mean(dices)


def steps_per_sec(net, loader):
    steps = 0
    for x, y in loader:
        steps += 1
        net(x)
    print("batches", steps)
