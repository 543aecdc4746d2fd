def train(model, loader, criterion, masked_accuracy, meter, pad):
    total = plain = right = 0
    for x, y in loader:
        out = model(x)
        total += criterion(out, y, ignore_index=pad).item()  # finds: BP102
        plain += model.loss(out, y).item()  # finds: BP201
        right += masked_accuracy(out, y)  # finds: BP102
    return total / len(loader), plain / len(loader), right / len(loader)
