"""Small training scripts, each with one thing that depends on the batch size."""

DATA = """
import torch
from torch.utils.data import DataLoader, TensorDataset

draw = torch.Generator().manual_seed(0)
x = torch.randn(200, 4, generator=draw)
y = x @ torch.ones(4, 1) + 0.5 * torch.randn(200, 1, generator=draw) + 1
data = TensorDataset(x, y)
"""

#: A frozen model, scored: nothing real can differ.
FROZEN = """
model = torch.nn.Linear(4, 1)
with torch.no_grad():
    model.weight.fill_(0.7)
    model.bias.fill_(0.5)
"""

TRAINED = """
model = torch.nn.Linear(4, 1)
with torch.no_grad():
    model.weight.zero_()
    model.bias.zero_()
optimizer = torch.optim.SGD(model.parameters(), lr={rate})
for epoch in range({epochs}):
    running = 0.0
    loader = DataLoader(data, batch_size=32, shuffle={shuffle})
    for inputs, real in loader:
        optimizer.zero_grad()
        loss = {loss}
        loss.backward()
        optimizer.step()
        running += loss.item()
    train_loss = running / len(loader)
    print("train", train_loss)
"""

EVALUATED = """
def evaluate(loader):
    total = 0.0
    with torch.no_grad():
        for inputs, real in loader:
            total += {loss}.item()
    return total / len(loader)

{before}
test_loss = evaluate(DataLoader(data, batch_size=32, drop_last={drop_last}))
print("test", test_loss)
"""

MSE = "torch.nn.functional.mse_loss(model(inputs), real)"
RMSE = "torch.sqrt(torch.nn.functional.mse_loss(model(inputs), real))"
SUM = "torch.nn.functional.mse_loss(model(inputs), real, reduction='sum')"
BROADCAST = "((model(inputs) - real[:, 0]) ** 2).mean()"


def trained(loss: str = MSE, rate: str = "0.01", epochs: int = 1, shuffle: bool = False) -> str:
    """A linear model from zero."""
    return DATA + TRAINED.format(loss=loss, rate=rate, epochs=epochs, shuffle=shuffle)


def evaluated(loss: str = MSE, drop_last: bool = False, before: str = "") -> str:
    """What `evaluate` gives for a model that is there already."""
    return EVALUATED.format(loss=loss, drop_last=drop_last, before=before)


NORMED = """
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
with torch.no_grad():
    for part in (model[0], model[2]):
        part.weight.copy_(torch.linspace(-1, 1, part.weight.numel()).reshape(part.weight.shape))
        part.bias.zero_()
"""
