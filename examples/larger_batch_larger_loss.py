"""A pretrained model is trained on for one epoch, and larger batches report a larger loss.

    python examples/larger_batch_larger_loss.py --batch-size 16
    batchproof compare examples/larger_batch_larger_loss.py --batch-size 16,64,128

The first prints the two losses at one batch size, the second says why they rise with it. The data are 442 diabetes
patients; the model knows them from an earlier study, whose scores began at another zero.
"""

import argparse
import csv
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

LEARNING_RATE = 1e-3
TRAINED_ON = 314
#: How much higher the new study's scores begin.
NEW_ZERO = 0.95


def rmse(pred, real):
    difference = pred - real
    squared = torch.square(difference)
    mean = torch.sum(squared) / pred.shape[0]
    return torch.sqrt(mean)


def train_epoch(loader, model, optimizer):
    running = 0.0
    for inputs, real in loader:
        optimizer.zero_grad()
        loss = rmse(model(inputs), real)
        loss.backward()
        optimizer.step()
        running += loss.item()
    train_loss = running / len(loader)
    return train_loss


def test_epoch(loader, model):
    running = 0.0
    with torch.no_grad():
        for inputs, real in loader:
            running += rmse(model(inputs), real).item()
    test_loss = running / len(loader)
    return test_loss


def patients():
    """Inputs of mean 0 and deviation 1, and how far the disease comes, in hundreds from its mean; in random order."""
    with Path(__file__).with_name("diabetes.csv").open() as file:
        rows = torch.tensor([[float(cell) for cell in row] for row in list(csv.reader(file))[1:]])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    rows = rows - rows.mean(0)
    return rows[:, :-1] / rows[:, :-1].std(0), rows[:, -1:] / 100


def pretrained(inputs, real):
    """The earlier study's model: random features, and the ridge regression on them; the same weights in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(10, 1200), torch.nn.ReLU(), torch.nn.Linear(1200, 1))
    with torch.no_grad():
        features = model[:2](inputs)
        ridge = features.T @ features + 30 * torch.eye(1200)
        model[2].weight.copy_(torch.linalg.solve(ridge, features.T @ real).T)
        model[2].bias.zero_()
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()

    inputs, progress = patients()
    train = TensorDataset(inputs[:TRAINED_ON], progress[:TRAINED_ON] + NEW_ZERO)
    test = TensorDataset(inputs[TRAINED_ON:], progress[TRAINED_ON:] + NEW_ZERO)
    train_loader = DataLoader(train, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test, batch_size=args.batch_size)

    model = pretrained(inputs[:TRAINED_ON], progress[:TRAINED_ON])
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for epoch in range(args.epochs):
        train_loss = train_epoch(train_loader, model, optimizer)
        test_loss = test_epoch(test_loader, model)
        print(f"epoch {epoch + 1}: train loss {train_loss:.3f}, test loss {test_loss:.3f}")


if __name__ == "__main__":
    main()
