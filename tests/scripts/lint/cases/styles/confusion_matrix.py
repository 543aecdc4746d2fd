import numpy as np


def evaluate(model, loader, n):
    cm = np.zeros((n, n))
    for x, y in loader:
        cm += confusion_matrix(y, model(x).argmax(1), labels=range(n))
    iou = np.diag(cm) / (cm.sum(0) + cm.sum(1) - np.diag(cm))
    return iou.mean()
