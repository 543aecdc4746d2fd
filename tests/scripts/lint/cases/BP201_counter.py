import torch.nn.functional as F


def train(model, loader, optimizer):
    total, batches = 0.0, 0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()  # finds: BP201
        batches += 1
    return total / batches
