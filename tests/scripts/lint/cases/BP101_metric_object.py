# A metric object keeps sums: right.
import torchmetrics


def evaluate(model, loader):
    metric = torchmetrics.MeanSquaredError(squared=False)
    for x, y in loader:
        metric.update(model(x), y)
    return metric.compute()
