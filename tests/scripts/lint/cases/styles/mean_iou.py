import numpy as np


def iou(p, t, n=21):
    ious = []
    for c in range(n):
        i = ((p == c) & (t == c)).sum()
        u = ((p == c) | (t == c)).sum()
        ious.append(float(i) / float(max(u, 1)))
    return np.mean(ious)


def evaluate(model, loader):
    tot = 0
    for x, y in loader:
        tot += iou(model(x).argmax(1), y)  # finds: BP102
    print("mIoU", tot / len(loader))
