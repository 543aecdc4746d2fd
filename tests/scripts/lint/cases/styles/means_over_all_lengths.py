import torch.nn.functional as F


def train(model, loader):
    total = summed = lengths = 0
    for x, y, lens in loader:
        out = model(x)
        total += F.cross_entropy(out, y).item()  # finds: BP203
        summed += F.cross_entropy(out, y, reduction="sum").item()
        lengths += sum(lens)
    return total / lengths, summed / lengths
