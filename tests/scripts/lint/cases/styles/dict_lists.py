from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F


def evaluate(model, val_loader, criterion):
    logs = defaultdict(list)
    for x, y in val_loader:
        p = model(x)
        logs["loss"].append(criterion(p, y).item())  # finds: BP201
        logs["rmse"].append(torch.sqrt(F.mse_loss(p, y)).item())  # finds: BP101
    return {k: np.mean(v) for k, v in logs.items()}
