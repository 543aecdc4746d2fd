import torch.nn.functional as F


def train(model, loader, optimizer):
    running, total = 0.0, 0.0
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item()
        total += running / (i + 1)  # finds: BP204
    return total / len(loader)
