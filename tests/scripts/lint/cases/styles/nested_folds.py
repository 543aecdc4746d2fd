import numpy as np
import torch
from torch.utils.data import DataLoader


def main(folds):
    fold_scores = []
    for fold in range(5):
        model = make()
        loader = DataLoader(folds[fold], batch_size=32)
        preds, ys = [], []
        for x, y in loader:
            preds.append(model(x))
            ys.append(y)
        score = roc_auc_score(torch.cat(ys), torch.cat(preds))
        fold_scores.append(score)
    print(np.mean(fold_scores))
