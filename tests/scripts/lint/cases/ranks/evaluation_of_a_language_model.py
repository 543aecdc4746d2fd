# Megatron-LM#7207: evaluation averages the token means of micro-batches, then those of the data-parallel ranks.
import torch
import torch.distributed as dist


def evaluate(model, loader, dp_group):
    total = torch.zeros(2, device="cuda")
    for tokens, labels, loss_mask in loader:
        losses = model(tokens, labels=labels)
        loss = (losses * loss_mask).sum() / loss_mask.sum()
        dist.all_reduce(loss, group=dp_group)  # finds: BP601
        loss = loss / dist.get_world_size(dp_group)
        print(loss)


def evaluate_right(model, loader, dp_group):
    total = torch.zeros(2, device="cuda")
    for tokens, labels, loss_mask in loader:
        losses = model(tokens, labels=labels)
        total[0] += (losses * loss_mask).sum()
        total[1] += loss_mask.sum()
    dist.all_reduce(total, group=dp_group)
    print(total[0] / total[1])
