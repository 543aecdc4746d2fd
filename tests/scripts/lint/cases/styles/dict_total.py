def evaluate(model, loader, criterion):
    total = {"loss": 0.0, "n": 0}
    for x, y in loader:
        total["loss"] += criterion(model(x), y).item()  # finds: BP201
        total["n"] += 1
    return total["loss"] / total["n"]
