"""What a script does with its ranks' numbers, by each collective and each way to divide; and where it is pointed at."""

from __future__ import annotations

import ast

import pytest

from batchproof.scripts.source import Topic, find

HEAD = """
import horovod.torch as hvd
import torch
import torch.distributed as dist
from sklearn.metrics import f1_score


def reduced(value):
    value = value.clone()
    dist.all_reduce(value)
    value /= dist.get_world_size()
    return value


def evaluate(model, loader, world_size, accelerator, fabric):
    predictions, labels, correct, n = [], [], 0, 0
    for x, y in loader:
        predictions.append(model(x).argmax(1))
        labels.append(y)
        correct += (predictions[-1] == y).sum()
        n += len(y)
    f1 = torch.tensor(f1_score(torch.cat(labels), torch.cat(predictions)))
"""


def found(body: str) -> list[tuple[Topic, str]]:
    """What is suspected of the lines that follow the head, each with the line that is pointed at."""
    text = HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines())
    lines = text.splitlines()
    return [(one.topic, lines[one.node.lineno - 1].strip()) for one in find(ast.parse(text)).suspicions]


@pytest.mark.parametrize(
    "body",
    [
        "dist.all_reduce(f1)\nreturn f1 / world_size",
        "dist.all_reduce(f1, op=dist.ReduceOp.SUM)\nf1 /= dist.get_world_size()\nreturn f1",
        "dist.all_reduce(f1)\nf1.div_(world_size)\nreturn f1",
        "dist.all_reduce(f1)\nreturn f1.item() / world_size",
        "dist.all_reduce(f1)\nn_ranks = dist.get_world_size()\nreturn float(f1) / n_ranks",
        "dist.all_reduce(f1, op=dist.ReduceOp.AVG)\nreturn f1",
        "dist.all_reduce(f1, dist.ReduceOp.AVG)\nreturn f1",
        "dist.reduce(f1, dst=0)\nreturn f1 / world_size",
        "return hvd.allreduce(f1)",
        "return hvd.allreduce(f1, op=hvd.Sum) / hvd.size()",
        "return fabric.all_reduce(f1)",
        "return accelerator.reduce(f1, reduction='mean')",
        "return accelerator.gather(f1).mean()",
        "return reduced(f1)",
        "both = torch.stack([f1, correct / n])\ndist.all_reduce(both)\nreturn both / world_size",
        "scores = {'f1': f1}\nreturn {name: reduced(score) for name, score in scores.items()}",
        "f1 = f1 / world_size\ndist.all_reduce(f1)\nreturn f1",
        "every = [torch.zeros(1)] * world_size\ndist.all_gather(every, f1)\nreturn torch.stack(every).mean()",
        "every = [None] * world_size\ndist.all_gather_object(every, f1)\nreturn sum(every) / len(every)",
    ],
)
def test_a_score_of_each_rank_is_averaged(body: str) -> None:
    assert {topic for topic, _ in found(body)} == {Topic.RANK_METRICS}


@pytest.mark.parametrize(
    "body",
    [
        "dist.all_reduce(f1, op=dist.ReduceOp.MAX)\nreturn f1",
        "dist.all_reduce(f1)\nreturn f1",
        "dist.all_reduce(correct)\nreturn correct / world_size",
        "totals = torch.tensor([correct, n])\ndist.all_reduce(totals)\nreturn totals[0] / totals[1]",
        "dist.all_reduce(correct)\ndist.all_reduce(n)\nreturn correct / n",
        "dist.all_reduce(n)\nreturn n / world_size",
        "return f1 / world_size",
        "import tensorflow as tf\nreturn tf.reduce_mean(f1)",
    ],
)
def test_sums_counts_and_other_libraries_are_left_alone(body: str) -> None:
    assert found(body) == []


def test_where_a_helper_of_the_file_reduces_its_caller_is_pointed_at() -> None:
    [(_, line)] = found("f1 = reduced(f1)\nreturn f1")
    assert line == "f1 = reduced(f1)"


def test_the_mean_of_each_rank_is_said_once_for_a_loop() -> None:
    body = "accuracy, again = correct / n, correct / n\nreturn reduced(accuracy), reduced(again)"
    assert [topic for topic, _ in found(body)] == [Topic.RANK_MEANS]


@pytest.mark.parametrize("even", ["DistributedSampler", "Accelerator"])
def test_shares_that_are_made_equal_have_equal_weights(even: str) -> None:
    assert found(f"from somewhere import {even}\nreturn reduced(correct / n)") == []


STEP = """
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel


def train(model, loader, optimizer, scaler, world_size):
    model = DistributedDataParallel(model)
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        {}
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("lines", "is_found"),
    [
        (["(loss / world_size).backward()"], True),
        (["loss /= world_size", "scaler.scale(loss).backward()"], True),
        (["loss = loss / (4 * world_size)", "loss.backward()"], True),
        (["extra = F.l1_loss(model(x), y) / world_size", "(loss + extra).backward()"], True),
        (["loss.backward()", "loss = loss / world_size", "print(loss.item())"], False),
        (["(loss * world_size).backward()"], False),
        (["loss.backward()"], False),
    ],
)
def test_a_loss_over_the_number_of_ranks(lines: list[str], is_found: bool) -> None:
    script = find(ast.parse(STEP.format("\n        ".join(lines))))
    assert (Topic.LOSS_OVER_RANKS in {one.topic for one in script.suspicions}) is is_found


def test_gradients_that_nothing_averages() -> None:
    text = STEP.format("(loss / world_size).backward()").replace("DistributedDataParallel", "prepared")
    assert find(ast.parse(text)).suspicions == ()
