import math

import torch


def psnr(a, b):
    mse = torch.mean((a - b) ** 2)
    return 10 * math.log10(1 / mse.item())


def test(model, loader):
    avg_psnr = 0
    for lr, hr in loader:
        avg_psnr += psnr(model(lr), hr)  # finds: BP101
    print("PSNR", avg_psnr / len(loader))
