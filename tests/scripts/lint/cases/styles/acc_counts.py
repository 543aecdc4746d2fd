def evaluate(model, val_loader):
    correct = 0
    n = 0
    for x, y in val_loader:
        p = model(x)
        correct += (p.argmax(1) == y).sum().item()
        n += y.shape[0]
    return correct / n
