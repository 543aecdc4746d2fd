import torch.nn.functional as F
from torch.utils.data import DataLoader


def fit(net, opt, data, accumulation_steps=4):
    loader = DataLoader(data, batch_size=8, drop_last=True)
    total, other, third = 0.0, 0.0, 0.0
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(net(x), y)
        third += loss.item()
        loss = loss / accumulation_steps
        total += loss.item() * accumulation_steps
        other += loss.item()
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            opt.step()
            opt.zero_grad()
    print(total / len(loader), other / len(loader) * accumulation_steps, third / len(loader))
