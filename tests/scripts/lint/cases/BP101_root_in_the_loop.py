import torch
from torch import nn


def train(model, train_loader, optimizer):
    criterion = nn.MSELoss()
    running_loss = 0.0
    for i, (x, y) in enumerate(train_loader):
        optimizer.zero_grad()
        loss = torch.sqrt(criterion(model(x), y))
        loss.backward()
        optimizer.step()
        running_loss += loss.item()  # finds: BP101
    print("train rmse", running_loss / (i + 1))
