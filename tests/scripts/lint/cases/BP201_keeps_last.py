# In context: the same without drop_last.
import torch.nn.functional as F
from torch.utils.data import DataLoader


def train(model, dataset, optimizer):
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    total = 0.0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()  # finds: BP201
    return total / len(loader)
