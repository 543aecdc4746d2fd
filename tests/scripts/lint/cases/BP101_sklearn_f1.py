import numpy as np
from sklearn.metrics import f1_score, roc_auc_score


def evaluate(model, loader):
    f1s, aucs = [], []
    for x, y in loader:
        scores = model(x)
        guess = (scores > 0.5).int()
        f1s.append(f1_score(y.numpy(), guess.numpy(), average="macro"))  # finds: BP101
        aucs.append(roc_auc_score(y.numpy(), scores.numpy()))  # finds: BP101
    return np.mean(f1s), np.mean(aucs)
