"""Meters of the file and of others, trainers that collect for themselves, and suspicions that are no averages."""

from __future__ import annotations

import ast
from ast import unparse

import pytest
from tests.scripts_read import loop, only, read

from batchproof.errors import BatchproofError
from batchproof.scripts.source import find
from batchproof.scripts.source.site import Divisor, Phase, Quantity, Topic, Weight

TOP = """
import torch
import torch.nn.functional as F
import torchmetrics
import pytorch_lightning as pl
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
"""
METER = """
class AverageMeter:
    def __init__(self):
        self.reset()

    def reset(self):
        self.sum = self.count = self.avg = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count
"""
PLAIN_METER = """
class Mean:
    def __init__(self):
        self.values = []

    def update(self, value):
        self.values.append(value)

    @property
    def avg(self):
        return sum(self.values) / len(self.values)
"""


@pytest.mark.parametrize(
    ("update", "divisor"),
    [
        ("meter.update(F.mse_loss(model(x), y).item(), x.size(0))", Divisor.SAMPLES),
        ("meter.update(F.mse_loss(model(x), y).item(), n=len(x))", Divisor.SAMPLES),
        ("meter.update(F.mse_loss(model(x), y).item())", Divisor.BATCHES),
    ],
)
@pytest.mark.parametrize("source", [METER, "from utils import AverageMeter"])
def test_a_meter_with_and_without_the_number_of_samples(update, divisor, source):
    site = only(TOP + source + loop(update, "return meter.avg", "meter = AverageMeter()"))
    assert unparse(site.add) == update
    assert site.name == "meter"
    assert {average.divisor for average in site.averages} == {divisor}


def test_a_meter_is_read_off_its_class_rather_than_its_name():
    script = loop("meter.update(F.mse_loss(model(x), y).item())", "return meter.avg", "meter = Mean()")
    site = only(TOP + PLAIN_METER + script)
    assert unparse(site.add).startswith("meter.update(")
    assert {average.divisor for average in site.averages} == {Divisor.BATCHES}


def test_meters_in_a_dict_by_name():
    script = loop('meters["loss"].update(F.mse_loss(model(x), y).sqrt().item(), len(x))', 'return meters["loss"].avg',
                  'meters = {"loss": AverageMeter()}')  # fmt: skip
    assert only(TOP + METER + script).added.quantity is Quantity.NONLINEAR


def test_times_in_a_meter_are_none_of_our_business():
    script = loop(
        "meter.update(time.time() - began)", "return meter.avg", "began = time.time(); meter = AverageMeter()"
    )
    assert not read(TOP + "import time\n" + METER + script).sites


def test_a_metric_object_that_accumulates_is_right():
    script = loop("metric.update(model(x), y)", "return metric.compute()", "metric = torchmetrics.F1Score()")
    assert not read(TOP + script).sites


def test_what_calling_a_metric_object_returns_is_of_the_batch():
    script = loop("total += torchmetrics.F1Score()(model(x), y)")
    assert only(TOP + script).added.quantity is Quantity.NONLINEAR


LIGHTNING = """
class Model(pl.LightningModule):
    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("val_loss", loss)
        self.log("val_rmse", torch.sqrt(loss))
        return loss
"""


def test_lightning_weights_what_is_logged_by_the_batch():
    sites = read(TOP + LIGHTNING).sites
    assert [(site.name, site.added.quantity) for site in sites] == [
        ("val_loss", Quantity.MEAN),
        ("val_rmse", Quantity.NONLINEAR),
    ]
    assert {site.added.weight for site in sites} == {Weight.SAMPLES}
    assert {site.loop.phase for site in sites} == {Phase.EVALUATION}


def test_in_training_lightning_averages_what_is_asked_for():
    script = LIGHTNING.replace('"train_loss", loss', '"train_loss", loss, on_epoch=True')
    assert read(TOP + script).sites[0].name == "train_loss"


def test_what_a_trainer_collects_is_averaged_where_the_epoch_ends():
    script = (
        TOP
        + LIGHTNING.replace("        self.log(", "        print(")
        + """
    def validation_epoch_end(self, outputs):
        mean = torch.stack(outputs).mean()
        print(mean)
"""
    )
    site = only(script)
    assert unparse(site.add) == "mean = torch.stack(outputs).mean()"
    assert [average.divisor for average in site.averages] == [Divisor.BATCHES]


@pytest.mark.parametrize(
    ("script", "topic"),
    [
        (loop("loss = F.mse_loss(model(x), y)", "print(loss.item())"), Topic.ONLY_LAST_BATCH),
        ("val_loader = DataLoader(data, batch_size=8, drop_last=True)", Topic.DROPPED_TAIL),
        ("val_sampler = DistributedSampler(val_set, shuffle=False)", Topic.PADDED_SAMPLER),
        (
            loop("loss = F.cross_entropy(model(x), y, weight=weights)\n        loss = loss / args.accumulation_steps"
                 "\n        loss.backward()", "pass"),
            Topic.DIVIDED_ACCUMULATION,
        ),
        (loop("F.mse_loss(model(x).view(-1, 1), y.view(-1)).backward()", "pass"), Topic.BROADCAST_SHAPES),
    ],
)  # fmt: skip
def test_doubts(script, topic):
    assert [suspicion.topic for suspicion in read(TOP + script).suspicions] == [topic]


@pytest.mark.parametrize(
    "script",
    [
        loop("loss = F.mse_loss(model(x), y)\n        print(loss.item())", "pass"),
        "train_loader = DataLoader(data, batch_size=8, drop_last=True)",
        "train_sampler = DistributedSampler(train_set)",
        loop("loss = F.mse_loss(model(x), y) / args.accumulation_steps\n        loss.backward()", "pass"),
        loop("F.mse_loss(model(x).view(-1), y.view(-1)).backward()", "pass"),
    ],
)
def test_no_doubts(script):
    assert not read(TOP + script).suspicions


def test_an_empty_file_holds_nothing():
    assert find(ast.parse("")).sites == ()


def test_expressions_that_are_nested_too_deeply_are_refused_in_words():
    node: ast.expr = ast.Name("x", ast.Load())
    for _ in range(20_000):
        node = ast.BinOp(node, ast.Add(), ast.Constant(1))
    tree = ast.parse("import torch\nfor x, y in loader:\n    total = 0")
    tree.body[1].body[0].value = node
    with pytest.raises(BatchproofError, match="nested too deeply"):
        find(tree)


def test_functions_that_call_each_other_come_to_an_end():
    calls = "\n".join(
        f"def f{i}(x):\n    for y in x:\n        f{i + 1}(y); f{i + 2}(y); f{(i * 7) % 40}(y)" for i in range(40)
    )
    assert find(ast.parse(calls + "\nf0(data)\n")).sites == ()


def test_a_list_that_is_added_to_itself_comes_to_an_end():
    grows = "a = [1, 2]\n" + "a += a\n" * 60 + "a.extend(a)\n" * 60
    assert find(ast.parse(grows)).sites == ()
