from torch.utils.data import DataLoader


def loaders(train_set, val_set):
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=64, drop_last=True)  # finds: BP302
    return train_loader, val_loader
