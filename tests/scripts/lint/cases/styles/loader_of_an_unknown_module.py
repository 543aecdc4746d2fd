from parts import *


def build(dataset, batch_size):
    kept = data.DataLoader(dataset, batch_size=batch_size, drop_last=False)
    dropped = data.DataLoader(dataset, batch_size=batch_size, drop_last=True)
    return dropped, kept


def train(model, loader, loss_fn):
    losses = []
    for x, y in loader:
        loss = loss_fn(model(x), y)
        loss.backward()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def validate(model, loader, loss_fn):
    losses = []
    for x, y in loader:
        losses.append(loss_fn(model(x), y).item())  # finds: BP201
    return sum(losses) / len(losses)


def main(model, dataset, loss_fn):
    first, second = build(dataset, 32)
    print(train(model, first, loss_fn), validate(model, second, loss_fn))
