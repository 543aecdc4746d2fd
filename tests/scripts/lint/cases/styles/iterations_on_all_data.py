import torch.nn.functional as F


def whole(net, graph, y, max_iter):
    total = 0
    for iter_idx in range(1, max_iter):
        loss = F.cross_entropy(net(graph), y)
        loss.backward()
        total += loss.item()
        if iter_idx % 10 == 0:
            print(iter_idx, total / iter_idx)


def parts(net, x, y, num_batches, size):
    total = 0
    for i in range(num_batches):
        loss = F.cross_entropy(net(x[i * size : (i + 1) * size]), y[i * size : (i + 1) * size])
        loss.backward()
        total += loss.item()  # finds: BP201
    return total / num_batches
