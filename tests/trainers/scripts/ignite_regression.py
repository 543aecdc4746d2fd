"""A regression in Ignite: Average, Loss and RunningAverage of what its engines give."""

import sys

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.metrics import Average, Loss, RunningAverage
from torch.utils.data import DataLoader, TensorDataset


def rmse(prediction, target):
    return torch.sqrt(torch.mean((prediction - target) ** 2))


torch.manual_seed(0)
size = int(sys.argv[1]) if len(sys.argv) > 1 else 16
x = torch.randn(100, 3)
y = x.sum(1, keepdim=True) + torch.randn(100, 1)
data = TensorDataset(x, y)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)


def train_step(engine, batch):
    model.train()
    optimizer.zero_grad()
    prediction = model(batch[0])
    loss = rmse(prediction, batch[1])
    loss.backward()
    optimizer.step()
    return {"loss": loss.item(), "mae": (prediction - batch[1]).abs().mean().item()}


trainer = Engine(train_step)
Average(output_transform=lambda output: output["loss"]).attach(trainer, "train_loss")
RunningAverage(output_transform=lambda output: output["mae"]).attach(trainer, "mae")
evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(torch.nn.functional.mse_loss), "rmse": Loss(rmse)})


@trainer.on(Events.EPOCH_COMPLETED)
def evaluate(engine):
    evaluator.run(DataLoader(data, size))
    print({name: round(value, 6) for name, value in {**engine.state.metrics, **evaluator.state.metrics}.items()})


trainer.run(DataLoader(data, size, shuffle=True), max_epochs=2)
