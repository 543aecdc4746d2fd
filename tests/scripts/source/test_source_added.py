"""What one batch adds, as `sites.find` reads it off a script's source."""

from __future__ import annotations

import pytest
from tests.scripts_read import loop, only

from batchproof.scripts.source.site import Quantity, Weight

HELPERS = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import f1_score

def rmse(pred, y):
    squares = (pred - y) ** 2
    return torch.sqrt(squares.sum() / pred.shape[0])

def masked(pred, y, mask):
    return (((pred - y) ** 2) * mask).sum() / mask.sum()

def info_nce(a, b):
    logits = a @ b.t()
    return F.cross_entropy(logits, torch.arange(len(a)))

def accuracy(pred, y):
    return (pred.argmax(1) == y).float().mean()

class Focal(nn.Module):
    def __init__(self):
        super().__init__()
        self.ce = nn.CrossEntropyLoss(reduction="none")

    def forward(self, pred, y):
        ce = self.ce(pred, y)
        return ((1 - torch.exp(-ce)) ** 2 * ce).mean()
"""


@pytest.mark.parametrize(
    ("value", "quantity"),
    [
        ("F.mse_loss(model(x), y).item()", Quantity.MEAN),
        ("nn.CrossEntropyLoss()(model(x), y).item()", Quantity.MEAN),
        ("(model(x) - y).pow(2).mean().item()", Quantity.MEAN),
        ("(model(x) - y).abs().sum().item() / len(x)", Quantity.MEAN),
        ("(model(x) - y).norm(dim=1).mean()", Quantity.MEAN),
        ("accuracy(model(x), y).item()", Quantity.MEAN),
        ("Focal()(model(x), y).item()", Quantity.MEAN),
        ("rmse(model(x), y).item()", Quantity.NONLINEAR),
        ("F.mse_loss(model(x), y).sqrt().item()", Quantity.NONLINEAR),
        ("F.mse_loss(model(x), y) ** 0.5", Quantity.NONLINEAR),
        ("torch.exp(F.cross_entropy(model(x), y)).item()", Quantity.NONLINEAR),
        ("10 * torch.log10(1 / F.mse_loss(model(x), y))", Quantity.NONLINEAR),
        ("f1_score(y, model(x).argmax(1))", Quantity.NONLINEAR),
        ("(model(x) - y).norm()", Quantity.NONLINEAR),
        ("model(x).std().item()", Quantity.NONLINEAR),
        ("masked(model(x), y, y > 0).item()", Quantity.RATIO),
        ("F.cross_entropy(model(x), y, weight=weights).item()", Quantity.RATIO),
        ("F.cross_entropy(model(x), y, ignore_index=0).item()", Quantity.RATIO),
        ("(model(x) - y)[y > 0].abs().mean().item()", Quantity.RATIO),
        ("info_nce(model(x), model(y)).item()", Quantity.COUPLED),
        ("NTXentLoss(0.1)(model(x), model(y)).item()", Quantity.COUPLED),
        ("F.mse_loss(model(x), y, reduction='sum').item()", Quantity.SUM),
        ("nn.MSELoss(size_average=False)(model(x), y).item()", Quantity.SUM),
        ("(model(x).argmax(1) == y).sum().item()", Quantity.COUNT),
        ("somebodys_loss(model(x), y).item()", Quantity.UNKNOWN),
    ],
)
def test_what_a_batch_contributes(value, quantity):
    assert only(HELPERS + loop(f"total += {value}")).added.quantity is quantity


@pytest.mark.parametrize(
    ("factor", "weight"),
    [
        ("x.size(0)", Weight.SAMPLES),
        ("x.shape[0]", Weight.SAMPLES),
        ("len(x)", Weight.SAMPLES),
        ("n", Weight.SAMPLES),
        ("args.batch_size", Weight.CONFIGURED),
        ("loader.batch_size", Weight.CONFIGURED),
        ("BATCH_SIZE", Weight.CONFIGURED),
        ("mask.sum()", Weight.OWN),
        ("0.5", Weight.NONE),
        ("args.lambda_", Weight.NONE),
    ],
)
def test_what_it_is_multiplied_by(factor, weight):
    body = f"mask = y > 0\n        n = y.size(0)\n        total += F.mse_loss(model(x), y).item() * {factor}"
    site = only(HELPERS + "BATCH_SIZE = 32\n" + loop(body))
    assert site.added.weight is weight


def test_the_length_of_a_batch_that_is_a_dict_counts_its_keys():
    script = (
        HELPERS
        + """
def evaluate(loader, model):
    total = 0
    for batch in loader:
        total += F.mse_loss(model(batch["x"]), batch["y"]).item() * len(batch)
    return total / len(loader.dataset)
"""
    )
    assert only(script).added.weight is Weight.OTHER


def test_the_parts_are_nodes_of_the_tree():
    site = only(HELPERS + loop("total += rmse(model(x), y).item() * len(x)"))
    from ast import unparse

    assert unparse(site.add) == "total += rmse(model(x), y).item() * len(x)"
    assert unparse(site.added.node) == "rmse(model(x), y).item()"
    assert unparse(site.added.call) == "rmse(model(x), y)"
    assert unparse(site.added.weight_node) == "len(x)"
    assert "torch.sqrt" in unparse(site.added.origin)
    assert site.added.why == "the square root is taken of each batch"
    assert [unparse(start) for start in site.starts] == ["total = 0"]
    assert site.function == "evaluate"
    assert site.name == "total"


def test_names_are_followed_to_what_they_hold():
    body = "pred = model(x)\n        mse = F.mse_loss(pred, y)\n        root = mse.sqrt()\n        value = root.item()"
    site = only(HELPERS + loop(f"{body}\n        total += value"))
    assert site.added.quantity is Quantity.NONLINEAR


def test_the_last_assignment_before_a_use_counts():
    body = "value = F.mse_loss(model(x), y).sqrt()\n        value = F.mse_loss(model(x), y)\n        total += value"
    assert only(HELPERS + loop(body)).added.quantity is Quantity.MEAN


def test_tuples_dicts_and_branches():
    script = (
        HELPERS
        + """
def both(pred, y):
    return {"mse": F.mse_loss(pred, y)}, rmse(pred, y)

def evaluate(loader, model, which):
    first = second = 0
    for x, y in loader:
        losses, root = both(model(x), y)
        if which:
            value = losses["mse"]
        else:
            value = None
        first += value.item()
        second += root.item()
    return first / len(loader), second / len(loader)
"""
    )
    from tests.scripts_read import read

    assert [site.added.quantity for site in read(script).sites] == [Quantity.MEAN, Quantity.NONLINEAR]


def test_a_criterion_is_followed_through_arguments_attributes_and_partial():
    script = (
        HELPERS
        + """
from functools import partial

class Trainer:
    def __init__(self, criterion):
        self.criterion = criterion

    def evaluate(self, loader, model):
        total = 0
        for x, y in loader:
            total += self.criterion(model(x), y).item()
        return total / len(loader)

Trainer(nn.CrossEntropyLoss(weight=weights)).evaluate(loader, model)
"""
    )
    assert only(script).added.quantity is Quantity.RATIO
    summed = HELPERS + "from functools import partial\nloss_fn = partial(F.mse_loss, reduction='sum')\n"
    assert only(summed + loop("total += loss_fn(model(x), y).item()")).added.quantity is Quantity.SUM


def test_values_of_single_samples_are_no_statistics_of_the_batch():
    script = (
        HELPERS
        + """
def evaluate(loader, model):
    scores = []
    for x, y in loader:
        for p, t in zip(model(x), y):
            scores.append(f1_score(t, p))
    return sum(scores) / len(scores)
"""
    )
    from tests.scripts_read import read

    assert not [s for s in read(script).sites if s.added.quantity is Quantity.NONLINEAR]
