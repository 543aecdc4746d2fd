"""What a debugger or a notebook's last line shows is short: the verdict, or the first line of the report."""

from __future__ import annotations

import torch
from torch import Tensor

import batchproof


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def median(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().median()


def test_what_the_verbs_give_has_a_short_repr() -> None:
    pred, real = torch.randn(2, 50).unbind(0)
    model = torch.nn.Linear(1, 1)
    parts = list(zip(pred.view(-1, 1).split(10), real.view(-1, 1).split(10), strict=True))

    def backward() -> None:
        rmse(model(pred.view(-1, 1)), real.view(-1, 1)).backward()

    loss = batchproof.accumulate(rmse, lambda part: (model(part[0]), part[1]), parts)
    metrics = [batchproof.exact(fn) for fn in (rmse, median)]
    for metric in metrics:
        metric.update(pred, real)
        metric.compute()
    shown = [
        batchproof.explain(rmse, pred, real),
        batchproof.simulate(rmse, "normal", batch_sizes=[1, 16], batches=50),
        batchproof.check_gradients(backward, backward, model),
        loss.scheme,
        *metrics,
        *(metric.plan for metric in metrics),
    ]
    for thing in shown:
        text = repr(thing)
        assert text.startswith(f"<{type(thing).__name__}"), text
        assert len(text) < 200, text
    assert repr(metrics[0].plan) == "<StatePlan: constant size: 16 bytes at any number of samples>"
