import torch.nn.functional as F


def train(model, loader, labels):
    total = unweighted = count = 0
    for nodes, features in loader:
        order = list(range(len(nodes)))
        loss = F.cross_entropy(model(features)[order], labels[nodes][order])
        total += loss.item() * len(order)
        unweighted += loss.item()  # finds: BP203
        count += len(order)
    return total / count, unweighted / count
