import torch.nn.functional as F
from torch.utils.data import DataLoader


def train(model, ds, opt):
    loader = DataLoader(ds, batch_size=32, shuffle=True, drop_last=True)
    total = 0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        total += loss.item()
    return total / len(loader)
