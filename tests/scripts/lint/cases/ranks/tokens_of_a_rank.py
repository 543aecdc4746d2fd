# transformers#34242: the mean over the tokens of all ranks is not the mean of the ranks' token means.
import torch
import torch.distributed as dist
import torch.nn.functional as F


def evaluate(model, loader):
    loss_sum, num_tokens = 0.0, 0
    for batch in loader:
        mask = batch["labels"] != -100
        losses = F.cross_entropy(model(batch["input_ids"]), batch["labels"], reduction="none")
        loss_sum += (losses * mask).sum()
        num_tokens += mask.sum()
    loss = loss_sum / num_tokens
    dist.all_reduce(loss, op=dist.ReduceOp.AVG)  # finds: BP601
    return loss


def evaluate_right(model, loader):
    loss_sum, num_tokens = 0.0, 0
    for batch in loader:
        mask = batch["labels"] != -100
        losses = F.cross_entropy(model(batch["input_ids"]), batch["labels"], reduction="none")
        loss_sum += (losses * mask).sum()
        num_tokens += mask.sum()
    totals = torch.stack([loss_sum, num_tokens])
    dist.all_reduce(totals)
    return totals[0] / totals[1]
