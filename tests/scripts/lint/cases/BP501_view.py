import torch.nn.functional as F


def train(model, loader, optimizer):
    for x, y in loader:
        loss = F.mse_loss(model(x).view(-1, 1), y.view(-1))  # finds: BP501
        loss.backward()
        optimizer.step()
