import torch


def binary_accuracy(preds, y):
    rounded = torch.round(torch.sigmoid(preds))
    correct = (rounded == y).float()
    return correct.sum() / len(correct)


def evaluate(model, iterator, criterion):
    epoch_loss = 0
    epoch_acc = 0
    for batch in iterator:
        predictions = model(batch.text).squeeze(1)
        loss = criterion(predictions, batch.label)
        acc = binary_accuracy(predictions, batch.label)
        epoch_loss += loss.item()  # finds: BP201
        epoch_acc += acc.item()  # finds: BP201
    return epoch_loss / len(iterator), epoch_acc / len(iterator)
