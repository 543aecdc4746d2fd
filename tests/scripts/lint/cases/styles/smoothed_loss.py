import torch.nn.functional as F


def lr_find(model, loader, opt):
    avg_loss, best = 0.0, 1e9
    beta = 0.98
    for i, (x, y) in enumerate(loader):
        loss = F.cross_entropy(model(x), y)
        avg_loss = beta * avg_loss + (1 - beta) * loss.item()
        smoothed = avg_loss / (1 - beta ** (i + 1))
        print(smoothed)
