import torch


def evaluate(model, loader):
    total = perplexity = steps = 0
    for x, y in loader:
        logits, loss = model(x, y)
        batch_loss = loss
        total += batch_loss.item()  # finds: BP201
        perplexity += torch.exp(batch_loss).item()  # finds: BP101
        steps += 1
    return total / steps, perplexity / steps, torch.exp(total / steps)
