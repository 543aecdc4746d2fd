import torch.nn.functional as F


def test(model, loader):
    total_loss = 0
    for data in loader:
        out = model(data.x, data.edge_index)
        loss = F.mse_loss(out, data.y)
        total_loss += float(loss)  # finds: BP201
    return total_loss / len(loader)
