"""A loss and two loops as they are often written: each batch is scored, and the scores are averaged over the batches.

`python examples/question.py` scores one fixed model on the same 442 samples at four batch sizes, then trains it again
at each. The first column moves although neither the model nor the data does; `make demo` says which line is behind it.
"""

import torch
from torch.utils.data import DataLoader, TensorDataset


def rmse(pred, real):
    difference = pred - real
    squared = torch.square(difference)
    total = torch.sum(squared)
    mean = total / pred.shape[0]
    root = torch.sqrt(mean)
    return root


def train_epoch(loader, model, optimizer):
    running = 0.0
    for inputs, real in loader:
        optimizer.zero_grad()
        loss = rmse(model(inputs), real)
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(loader)


def test_epoch(loader, model):
    running = 0.0
    with torch.no_grad():
        for inputs, real in loader:
            running += rmse(model(inputs), real).item()
    return running / len(loader)


def main():
    torch.manual_seed(0)
    inputs = torch.randn(442, 10)
    real = inputs @ torch.randn(10, 1) + torch.randn(442, 1)
    data = TensorDataset(inputs, real)

    print("batch size   test, same model   train, first epoch")
    for batch_size in (1, 16, 64, 442):
        torch.manual_seed(1)
        model = torch.nn.Linear(10, 1)
        test = test_epoch(DataLoader(data, batch_size), model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        train = train_epoch(DataLoader(data, batch_size, shuffle=True), model, optimizer)
        print(f"{batch_size:10}   {test:16.3f}   {train:18.3f}")


if __name__ == "__main__":
    main()
