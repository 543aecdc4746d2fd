# In context: batches of one are all equally large.
import torch.nn.functional as F
from torch.utils.data import DataLoader


def evaluate(model, dataset):
    loader = DataLoader(dataset, batch_size=1)
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item()
    return total / len(loader)
