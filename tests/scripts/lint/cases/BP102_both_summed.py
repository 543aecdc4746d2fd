# Numerator and denominator are added up, and divided once: right.
def evaluate(model, loader):
    total, count = 0.0, 0.0
    for x, y, mask in loader:
        total += (((model(x) - y) ** 2) * mask).sum().item()
        count += mask.sum().item()
    return total / count
