from collections import defaultdict


def evaluate(model, loader):
    totals = defaultdict(float)
    for batch in loader:
        out = model(**batch)
        for k, v in out.items():
            totals[k] += v.item()  # finds: BP201
    return {k: v / len(loader) for k, v in totals.items()}
