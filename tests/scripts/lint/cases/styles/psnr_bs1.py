from math import log10

import torch.nn.functional as F
from torch.utils.data import DataLoader


def test(model, data):
    loader = DataLoader(data, batch_size=1)
    avg = 0
    for lr, hr in loader:
        avg += 10 * log10(1 / F.mse_loss(model(lr), hr).item())
    print(avg / len(loader))
