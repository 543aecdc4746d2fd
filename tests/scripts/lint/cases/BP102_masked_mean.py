def masked_mse(pred, y, mask):
    return (((pred - y) ** 2) * mask).sum() / mask.sum()


def evaluate(model, loader):
    total = 0.0
    for x, y, mask in loader:
        total += masked_mse(model(x), y, mask).item()  # finds: BP102
    return total / len(loader)
