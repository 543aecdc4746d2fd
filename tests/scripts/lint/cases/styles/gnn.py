import torch.nn.functional as F


def test(model, loader):
    total_loss = 0
    for data in loader:
        out = model(data)
        loss = F.cross_entropy(out, data.y)
        total_loss += loss.item() * data.num_graphs
    return total_loss / len(loader.dataset)
