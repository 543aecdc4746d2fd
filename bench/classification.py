"""Classification metrics as different people write them: each on its own, from logits and labels."""

import torch
import torch.nn.functional as F

CLASSES = 10


def accuracy(logits, labels):
    return (logits.argmax(1) == labels).float().mean()


def micro_f1(logits, labels):
    return (logits.argmax(dim=-1) == labels).sum() / labels.shape[0]


def balanced_accuracy(logits, labels):
    hits = labels[logits.argmax(1) == labels].bincount(minlength=CLASSES)
    return (hits / labels.bincount(minlength=CLASSES)).mean()


def precision(logits, labels):
    pairs = torch.bincount(labels * CLASSES + logits.argmax(1), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    return (pairs.diagonal() / pairs.sum(0).clamp(min=1)).mean()


def recall(logits, labels):
    said = logits.argmax(1)
    hits = torch.stack([((said == c) & (labels == c)).sum() for c in range(CLASSES)])
    return (hits / torch.stack([(labels == c).sum() for c in range(CLASSES)])).mean()


def macro_f1(logits, labels):
    pairs = torch.bincount(labels * CLASSES + logits.argmax(1), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    return (2 * pairs.diagonal() / (pairs.sum(0) + pairs.sum(1))).mean()


def specificity(logits, labels):
    said, real = F.one_hot(logits.argmax(1), CLASSES), F.one_hot(labels, CLASSES)
    right = ((1 - said) * (1 - real)).sum(0)
    return (right / (right + (said * (1 - real)).sum(0))).mean()


def confusion_matrix(logits, labels):
    index = CLASSES * labels + logits.argmax(1)
    return torch.bincount(index, minlength=CLASSES**2).view(CLASSES, CLASSES)


def matthews(logits, labels):
    pairs = torch.zeros(CLASSES, CLASSES)
    pairs = pairs.index_put((labels, logits.argmax(1)), torch.ones(len(labels)), accumulate=True)
    real, said, hits, n = pairs.sum(1), pairs.sum(0), pairs.trace(), pairs.sum()
    spread = (n * n - (said * said).sum()) * (n * n - (real * real).sum())
    return (hits * n - (real * said).sum()) / spread.sqrt()


def kappa(logits, labels):
    pairs = torch.bincount(labels * CLASSES + logits.argmax(1), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    pairs = pairs.double() / pairs.sum()
    by_chance = (pairs.sum(0) * pairs.sum(1)).sum()
    return (pairs.trace() - by_chance) / (1 - by_chance)


def jaccard(logits, labels):
    said, real = F.one_hot(logits.argmax(1), CLASSES).bool(), F.one_hot(labels, CLASSES).bool()
    return ((said & real).sum(0) / (said | real).sum(0)).mean()


FUNCTIONS = {
    "accuracy": accuracy,
    "micro F1": micro_f1,
    "balanced accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "macro F1": macro_f1,
    "specificity": specificity,
    "confusion matrix": confusion_matrix,
    "Matthews": matthews,
    "kappa": kappa,
    "Jaccard": jaccard,
}
