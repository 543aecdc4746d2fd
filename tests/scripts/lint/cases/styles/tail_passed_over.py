import torch.nn.functional as F


def evaluate(net, x, y, batch_size):
    losses, total = [], 0.0
    for start in range(0, len(x), batch_size):
        part = x[start : start + batch_size]
        if len(part) < batch_size:
            break
        loss = F.mse_loss(net(part), y[start : start + batch_size]).item()
        losses.append(loss)
    return sum(losses) / len(losses)


def and_counted_all_the_same(net, loader, batch_size):
    total = 0.0
    for x, y in loader:
        if x.size(0) != batch_size:
            continue
        total += F.mse_loss(net(x), y).item()  # finds: BP201
    return total / len(loader)
