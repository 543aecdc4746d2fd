import torchmetrics


def evaluate(model, loader):
    m = torchmetrics.F1Score(task="multiclass", num_classes=3)
    for x, y in loader:
        m.update(model(x), y)
    return m.compute()
