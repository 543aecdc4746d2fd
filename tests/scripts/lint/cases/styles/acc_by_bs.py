def evaluate(model, loader, batch_size):
    correct = 0
    for x, y in loader:
        correct += (model(x).argmax(1) == y).sum().item()  # finds: BP202
    return correct / (len(loader) * batch_size)
