def train(model, loader, opt, criterion):
    avg = None
    for x, y in loader:
        loss = criterion(model(x), y)
        avg = loss.item() if avg is None else 0.98 * avg + 0.02 * loss.item()
    return avg
