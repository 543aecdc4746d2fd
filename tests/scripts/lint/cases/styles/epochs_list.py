import numpy as np


def fit(model, loader, val_loader, criterion):
    train_losses = []
    for epoch in range(10):
        batch_losses = []
        for x, y in loader:
            loss = criterion(model(x), y)
            batch_losses.append(loss.item())  # finds: BP201
        training_loss = np.mean(batch_losses)
        train_losses.append(training_loss)
    return np.mean(train_losses)
