from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


def loaders(train_set, val_set):
    train_sampler = DistributedSampler(train_set)
    val_sampler = DistributedSampler(val_set, shuffle=False)  # finds: BP303
    train_loader = DataLoader(train_set, batch_size=64, sampler=train_sampler)
    val_loader = DataLoader(val_set, batch_size=64, sampler=val_sampler)
    return train_loader, val_loader


def evaluate(model, val_loader):
    correct, n = 0, 0
    for x, y in val_loader:
        correct += (model(x).argmax(1) == y).sum().item()
        n += len(y)
    return correct / n
