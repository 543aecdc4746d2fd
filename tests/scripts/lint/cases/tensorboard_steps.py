# A value that is only logged at its step is not averaged.
import torch
import torch.nn.functional as F


def train(model, loader, optimizer, writer):
    for step, (x, y) in enumerate(loader):
        loss = torch.sqrt(F.mse_loss(model(x), y))
        loss.backward()
        optimizer.step()
        writer.add_scalar("train/rmse", loss.item(), step)
