# fairchem#269: the loss of each replica, averaged over replicas, which have not equally many atoms or systems.
import torch.distributed as dist
import torch.nn.functional as F


def reduced(value):
    if dist.get_world_size() > 1:
        dist.all_reduce(value, op=dist.ReduceOp.SUM)
        value = value / dist.get_world_size()
    return value


def validate(model, loader, reduce_ranks):
    total_error, num_samples_local = 0.0, 0
    for data in loader:
        error = F.l1_loss(model(data), data.y)
        total_error += error * data.num_graphs
        num_samples_local += data.num_graphs
    val_error = total_error / num_samples_local
    if reduce_ranks:
        val_error = reduced(val_error)  # finds: BP602
    return val_error


def validate_right(model, loader, reduce_ranks):
    total_error, num_samples_local = 0.0, 0
    for data in loader:
        error = F.l1_loss(model(data), data.y)
        total_error += error * data.num_graphs
        num_samples_local += data.num_graphs
    if reduce_ranks:
        dist.all_reduce(total_error)
        dist.all_reduce(num_samples_local)
    return total_error / num_samples_local
