# trl#7010: a number of each rank is gathered, and the samples that fill the last batch can no longer be left out.
import torch
import torch.nn.functional as F


def evaluate(model, loader, accelerator):
    model.eval()
    margins = []
    for chosen, rejected in loader:
        margin = (model(chosen) - model(rejected)).mean()
        margins.append(accelerator.gather_for_metrics(margin).mean().item())  # finds: BP201, BP606
    return sum(margins) / len(margins)


def evaluate_perplexity(model, loader, accelerator):
    perplexities = []
    for x, y in loader:
        perplexity = torch.exp(F.cross_entropy(model(x), y))
        gathered = accelerator.gather(perplexity)  # finds: BP601
        perplexities.append(gathered.mean().item())  # finds: BP101
    return sum(perplexities) / len(perplexities)


def evaluate_right(model, loader, accelerator):
    model.eval()
    losses = []
    for x, y in loader:
        loss = F.cross_entropy(model(x), y, reduction="none")
        losses.append(accelerator.gather_for_metrics(loss))
    return torch.exp(torch.cat(losses).mean())
