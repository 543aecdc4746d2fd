import torch
from transformers import GPT2LMHeadModel


@torch.no_grad()
def estimate(model, data, rounds):
    losses = torch.zeros(rounds)
    for k in range(rounds):
        batch = get_batch(data)
        losses[k] = model(batch, labels=batch).loss.item()
    return losses.mean()


def evaluate(model: GPT2LMHeadModel, loader):
    losses = []
    for batch in loader:
        losses.append(model(**batch).loss.item())  # finds: BP102
    return sum(losses) / len(losses)
