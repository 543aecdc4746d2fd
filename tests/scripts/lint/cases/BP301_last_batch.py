import torch.nn.functional as F


def evaluate(model, loader):
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
    print("validation loss", loss.item())  # finds: BP301
