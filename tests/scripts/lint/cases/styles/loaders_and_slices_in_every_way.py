import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
def fit(net, ds, opt, acc):
    loader = acc.prepare(DataLoader(ds, batch_size=8))
    total = 0
    for x, y in loader:
        loss = F.mse_loss(net(x), y)
        total += loss.item()  # finds: BP201
    print(total / len(loader))
def fit2(net, train, val, opt, accelerator):
    tl, vl = DataLoader(train, batch_size=8, drop_last=True), DataLoader(val, batch_size=8)
    net, opt, tl, vl = accelerator.prepare(net, opt, tl, vl)
    total = 0
    for x, y in vl:
        total += F.mse_loss(net(x), y).item()  # finds: BP201
    print(total / len(vl))
    total = 0
    for x, y in tl:
        total += F.mse_loss(net(x), y).item()
    print(total / len(tl))
class Wrap:
    def __init__(self, inner): self.inner = inner
    def __iter__(self):
        for b in self.inner: yield b
    def __len__(self): return len(self.inner)
def fit3(net, ds):
    w = Wrap(DataLoader(ds, 8))
    total = 0
    for x, y in w:
        total += F.mse_loss(net(x), y).item()  # finds: BP201
    return total / len(w)
def fit4(net, xs, ys, size):
    losses = []
    for i in range(0, len(xs), size):
        losses.append(F.mse_loss(net(xs[i:i+size]), ys[i:i+size]).item())  # finds: BP201
    return sum(losses) / len(losses)
def fit5(net, xs, ys, k):
    total = 0
    n = len(xs) // k
    for j in range(n):
        a = j * k
        b = a + k
        total += F.mse_loss(net.predict(xs[a:b]), ys[a:b]).item()
    return total / n
def fit6(net, xs, ys, k):
    total = 0
    n = -(-len(xs) // k)
    for j in range(n):
        total += F.mse_loss(net.predict(xs[j*k:(j+1)*k]), ys[j*k:(j+1)*k]).item()  # finds: BP201
    return total / n
def fit7(net, xs, ys, k):
    total, n = 0, 0
    for s in list(range(len(xs)))[::k]:
        x, y = xs[s:s+k], ys[s:s+k]
        total += F.mse_loss(net.predict(x), y).item(); n += 1  # finds: BP201
    return total / n
def fit8(net, xs, ys, k):
    total, n, i = 0, 0, 0
    while i < len(xs):
        x, y = xs[i:i+k], ys[i:i+k]
        total += F.mse_loss(net(x), y).item()  # finds: BP201
        n += 1
        i += k
    return total / n
def fit9(net, xs, ys, k):
    total, n = 0, 0
    for x, y in zip(xs.split(k), ys.split(k)):
        total += F.mse_loss(net(x), y).item()  # finds: BP201
        n += 1
    return total / n
def fit10(net, xs, ys, k):
    total, n = 0, 0
    for x, y in zip(torch.split(xs, k), torch.split(ys, k)):
        total += F.mse_loss(net(x), y).item()  # finds: BP201
        n += 1
    return total / n
def fit11(net, xs, ys, k):
    total, n = 0, 0
    for idx in torch.randperm(len(xs)).split(k):
        total += F.mse_loss(net(xs[idx]), ys[idx]).item()  # finds: BP201
        n += 1
    return total / n
def fit12(net, xs, ys, k):
    total, n = 0, 0
    idx = np.arange(len(xs))
    for start in range(0, len(xs), k):
        sel = idx[start:start + k]
        total += F.mse_loss(net(xs[sel]), ys[sel]).item()  # finds: BP201
        n += 1
    return total / n
