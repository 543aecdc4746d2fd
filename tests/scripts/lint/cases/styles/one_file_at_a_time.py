import os
from pathlib import Path

import torch.nn.functional as F


def on_files(model, folder):
    names = os.listdir(folder)
    total = score = 0
    for image in sorted(names):
        out = model(read(folder, image))
        total += F.mse_loss(out, read(folder, image)).item()
        score += psnr(out, read(folder, image))
    return total / len(names), score / len(names)


def on_paths(model, folder):
    total = 0
    images = list(Path(folder).glob("*.png"))
    for image in images:
        total += F.mse_loss(model(read(image)), read(image)).item()
    return total / len(images)


def on_batches(model, loader):
    total = 0
    for image in loader:
        total += F.mse_loss(model(image), image).item()  # finds: BP201
    return total / len(loader)
