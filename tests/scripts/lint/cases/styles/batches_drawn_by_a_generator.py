import numpy as np
import torch


def train(data, model, opt):
    n_batch = data.n_train // data.batch_size + 1
    total = 0.0
    for step in range(1, n_batch + 1):
        user, item = data.generate_train_batch(data.users, data.batch_size)
        loss = model(user, item, mode="train_loss")
        loss.backward()
        opt.step()
        total += loss.item()
    print(total / n_batch)


def values_of_samples(model, loader, metrics_of):
    found = {"recall": []}
    with torch.no_grad():
        for users, items in loader:
            metrics = metrics_of(model(users, items), items)
            found["recall"].append(metrics["recall"])
    return np.concatenate(found["recall"]).mean()


def chunks(model, text, criterion, bptt):
    total = 0.0
    for i in range(0, text.size(0) - 1, bptt):
        x, y = get_batch(text, i)
        total += criterion(model(x), y).item()  # finds: BP201
    return total / (len(text) // bptt)
