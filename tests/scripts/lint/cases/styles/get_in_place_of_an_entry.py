def evaluate(loader, model, metrics, criterion):
    totals, counts = {}, {}
    for i, (x, y) in enumerate(loader):
        out = model(x)
        for name in metrics:
            totals[name] = totals.get(name, 0) + criterion(out, y).item()  # finds: BP201
            counts[name] = counts.get(name, 0) + (out.argmax(1) == y).sum().item()
    means = {name: total / (i + 1) for name, total in totals.items()}
    return means, {name: count / len(loader.dataset) for name, count in counts.items()}
