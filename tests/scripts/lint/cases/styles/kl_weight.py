import torch
import torch.nn.functional as F


def train_vae(model, loader, beta):
    rec_sum = kl_sum = 0
    for x in loader:
        out, mu, lv = model(x)
        rec = F.mse_loss(out, x)
        kl = -0.5 * torch.mean(1 + lv - mu**2 - lv.exp())
        loss = rec + beta * kl
        loss.backward()
        rec_sum += rec.item()  # finds: BP201
        kl_sum += kl.item()  # finds: BP201
    n = len(loader)
    return rec_sum / n, kl_sum / n
