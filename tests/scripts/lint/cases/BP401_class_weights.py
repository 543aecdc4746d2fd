from torch import nn


def train(model, loader, optimizer, class_weights, accumulation_steps):
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        loss = loss / accumulation_steps  # finds: BP401
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
