import torchmetrics


def evaluate(model, loader):
    m = torchmetrics.F1Score(task="multiclass", num_classes=3)
    tot = 0
    for x, y in loader:
        tot += m(model(x), y).item()  # finds: BP101
    return tot / len(loader)
