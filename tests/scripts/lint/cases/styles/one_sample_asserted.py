import numpy as np
from measures import stoi


def validate(model, loader):
    scores, others = [], []
    for noisy, clean, name in loader:
        assert len(name) == 1, "one recording at a time"
        scores.append(stoi(clean, model(noisy)))
    return np.mean(scores)


def others(model, loader):
    scores = []
    for noisy, clean, name in loader:
        assert len(name) > 0
        scores.append(stoi(clean, model(noisy)))  # finds: BP201
    return np.mean(scores)
