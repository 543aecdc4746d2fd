import numpy as np
from scipy.stats import pearsonr


def evaluate(model, loader):
    rs = []
    for x, y in loader:
        r, _ = pearsonr(model(x).numpy(), y.numpy())
        rs.append(r)  # finds: BP101
    return np.mean(rs)
