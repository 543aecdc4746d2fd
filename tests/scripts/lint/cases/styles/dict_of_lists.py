from collections import defaultdict

import numpy as np
import torch


def validate(model, loader, criterion):
    results = defaultdict(list)
    for batch in loader:
        out = model(batch["image"])
        results["loss"].append(criterion(out, batch["label"]).item())  # finds: BP201
        results["iou"].append(iou_score(out, batch["label"]).item())  # finds: BP101
    return {key: np.mean(values) for key, values in results.items()}
