"""The same metrics as hand-written sums in float64: what a careful person writes when one metric is enough.

They only add up; nothing is checked, and gradients are the caller's affair.
"""

import torch
import torch.nn.functional as F

CLASSES = 10
IGNORED = -100  # such labels do not count in F.cross_entropy's mean


def _zero():
    return torch.zeros((), dtype=torch.float64)


class RMSE:
    def __init__(self):
        self.square, self.n = _zero(), 0

    def update(self, pred, real):
        error = (pred - real).double()
        self.square += (error * error).sum()
        self.n += pred.shape[0]


class R2:
    def __init__(self):
        self.square, self.sum, self.sum_square, self.n = _zero(), _zero(), _zero(), 0

    def update(self, pred, real):
        error = (real - pred).double()
        real = real.double()
        self.square += (error * error).sum()
        self.sum += real.sum()
        self.sum_square += (real * real).sum()
        self.n += pred.shape[0]


class Pearson:
    def __init__(self):
        self.x, self.y, self.xx, self.yy, self.xy, self.n = _zero(), _zero(), _zero(), _zero(), _zero(), 0

    def update(self, pred, real):
        x, y = pred.double(), real.double()
        self.x += x.sum()
        self.y += y.sum()
        self.xx += (x * x).sum()
        self.yy += (y * y).sum()
        self.xy += (x * y).sum()
        self.n += pred.shape[0]


class Accuracy:
    def __init__(self):
        self.right, self.n = torch.zeros((), dtype=torch.int64), 0

    def update(self, logits, labels):
        self.right += (logits.argmax(1) == labels).sum()
        self.n += labels.shape[0]


class MacroF1:
    def __init__(self):
        self.pairs = torch.zeros(CLASSES * CLASSES, dtype=torch.int64)

    def update(self, logits, labels):
        self.pairs += torch.bincount(labels * CLASSES + logits.argmax(1), minlength=CLASSES * CLASSES)


class MacroF1OneHot:
    def __init__(self):
        self.hits, self.said, self.real = (torch.zeros(CLASSES, dtype=torch.int64) for _ in range(3))

    def update(self, logits, labels):
        said, real = F.one_hot(logits.argmax(1), CLASSES), F.one_hot(labels, CLASSES)
        self.hits += (said * real).sum(0)
        self.said += said.sum(0)
        self.real += real.sum(0)


class CrossEntropy:
    def __init__(self):
        self.total, self.n = _zero(), torch.zeros((), dtype=torch.int64)

    def update(self, logits, labels):
        self.total += F.cross_entropy(logits, labels, reduction="none").double().sum()
        self.n += (labels != IGNORED).sum()
