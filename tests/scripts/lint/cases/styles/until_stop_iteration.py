def evaluate(model, loader, criterion):
    it = iter(loader)
    total = 0.0
    n = 0
    while True:
        try:
            x, y = next(it)
        except StopIteration:
            break
        total += criterion(model(x), y).item()  # finds: BP201
        n += 1
    return total / n
