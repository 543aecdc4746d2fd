import torch


def all_pairs(embeddings):
    product = torch.matmul(embeddings, embeddings.t())
    distances = torch.clamp(product.diag().unsqueeze(0) - 2.0 * product, min=0.0)
    valid = distances.gt(1e-16).float()
    return distances.sum() / (valid.sum() + 1e-16)


def own_distances(embeddings, centers):
    return ((embeddings - centers) ** 2).sum(1).mean()


def train(model, loader, centers):
    total = plain = 0
    for x, y in loader:
        out = model(x)
        total += all_pairs(out).item()  # finds: BP103
        plain += own_distances(out, centers).item()  # finds: BP201
    return total / len(loader), plain / len(loader)
