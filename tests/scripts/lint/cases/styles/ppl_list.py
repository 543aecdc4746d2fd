import torch


def evaluate(model, loader):
    ppls = []
    for batch in loader:
        loss = model(**batch).loss
        ppls.append(torch.exp(loss).item())  # finds: BP101
    return sum(ppls) / len(ppls)
