import torch.nn.functional as F


def train(model, loader, optimizer, writer):
    total, other, third, count = 0.0, 0.0, 0.0, 0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()  # finds: BP206
        other += loss.item() * len(x)
        third += F.mse_loss(model(x), y, reduction="sum").item()
        count += (model(x).argmax(1) == y).sum().item()
    print(f"loss {total:.3f}", other, third, count)
    return other / len(loader.dataset)
