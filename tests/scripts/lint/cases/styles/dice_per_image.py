def dice(p, t, eps=1e-6):
    inter = (p * t).sum(dim=(1, 2, 3))
    return ((2 * inter + eps) / (p.sum(dim=(1, 2, 3)) + t.sum(dim=(1, 2, 3)) + eps)).mean()


def evaluate(model, loader):
    tot, n = 0, 0
    for x, y in loader:
        tot += dice(model(x), y).item() * x.size(0)
        n += x.size(0)
    return tot / n
