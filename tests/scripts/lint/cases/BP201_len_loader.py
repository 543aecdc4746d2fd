from torch import nn


def evaluate(model, loader):
    criterion = nn.CrossEntropyLoss()
    total_loss = 0
    for inputs, labels in loader:
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        total_loss += loss.item()  # finds: BP201
    return total_loss / len(loader)
