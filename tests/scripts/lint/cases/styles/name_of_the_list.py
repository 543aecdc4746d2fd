import numpy as np
from engine import Engine


def fit(loader, engine: Engine):
    rmse = []
    for x, y in loader:
        metrics = engine.train(x, y)
        rmse.append(metrics[2])  # finds: BP101
    print("RMSE", np.mean(rmse))
