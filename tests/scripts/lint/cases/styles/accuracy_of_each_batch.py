def evaluate(model, loader, batch_size):
    acc = 0
    for x, y in loader:
        acc += (model(x).argmax(1) == y).sum().item() / y.size(0)  # finds: BP201
    return acc / len(loader)
