from torch import nn


def evaluate(model, loader, pad):
    criterion = nn.CrossEntropyLoss(ignore_index=pad)
    epoch_loss = 0
    for i, batch in enumerate(loader):
        src, trg = batch.src, batch.trg
        output = model(src, trg)[1:].view(-1, 100)
        loss = criterion(output, trg[1:].view(-1))
        epoch_loss += loss.item()  # finds: BP102
    return epoch_loss / len(loader)
