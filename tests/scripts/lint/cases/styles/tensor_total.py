import torch
import torch.nn.functional as F


def evaluate(model, val_loader):
    total = torch.zeros(1)
    correct = 0
    for x, y in val_loader:
        p = model(x)
        total += F.cross_entropy(p, y)  # finds: BP201
        correct += (p.argmax(1) == y).float().mean()  # finds: BP201
    print(f"loss {total.item() / len(val_loader):.3f} acc {100 * correct / len(val_loader):.2f}")
