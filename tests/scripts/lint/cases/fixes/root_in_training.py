import torch
from torch import nn


class RMSELoss(nn.Module):
    def forward(self, pred, y):
        return torch.sqrt(nn.functional.mse_loss(pred, y))


def evaluate(model, loader):
    criterion = RMSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for epoch in range(2):
        running_loss = 0.0
        for i, (x, y) in enumerate(loader):
            optimizer.zero_grad()
            pred = model(x)
            loss = criterion(pred, y)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(f"epoch {epoch}: {running_loss / len(loader):.6f}")
    return running_loss / (i + 1)
