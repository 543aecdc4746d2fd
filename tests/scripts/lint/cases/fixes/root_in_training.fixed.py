import torch
from torch import nn
import batchproof


class RMSELoss(nn.Module):
    def forward(self, pred, y):
        return torch.sqrt(nn.functional.mse_loss(pred, y))


def evaluate(model, loader):
    criterion = RMSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for epoch in range(2):
        exact_criterion = batchproof.exact(criterion)
        for i, (x, y) in enumerate(loader):
            optimizer.zero_grad()
            pred = model(x)
            loss = exact_criterion(pred, y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {exact_criterion.compute().item():.6f}")
    return exact_criterion.compute().item()
