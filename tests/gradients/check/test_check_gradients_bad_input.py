"""What cannot be checked is refused in one clear line, and nothing has changed afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from batchproof import BatchproofError, check_gradients
from batchproof.trainers import loop

MODEL = nn.Linear(3, 1)
X = torch.ones(4, 3)


def full() -> None:
    MODEL(X).mean().backward()


def accumulated() -> None:
    for part in X.split(2):
        (MODEL(part).mean() / 2).backward()


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((None, accumulated, MODEL), {}, "full is a function without arguments that leaves gradients, not NoneType"),
        ((full, 3, MODEL), {}, "accumulated is a function without arguments"),
        ((full, accumulated, 3), {}, "a module, or \\(name, parameter\\) pairs .* not int"),
        ((full, accumulated, MODEL.parameters()), {}, "a module, or \\(name, parameter\\) pairs"),
        ((full, accumulated, [("w", MODEL.weight), ("w", MODEL.bias)]), {}, "two parameters are called w"),
        ((full, accumulated, nn.ReLU()), {}, "no parameter that requires a gradient"),
        ((full, accumulated, nn.Linear(2, 2).requires_grad_(False)), {}, "no parameter that requires a gradient"),
        ((full, accumulated, nn.LazyLinear(2)), {}, "weight has no shape yet"),
        ((nothing, accumulated, MODEL), {}, "the whole-batch run left no gradient"),
        ((full, nothing, MODEL), {}, "the accumulated run left no gradient"),
        ((full, accumulated, MODEL), {"tolerance": 0}, "a tolerance is a fraction between 0 and 1, not 0"),
        ((full, accumulated, MODEL), {"tolerance": "x"}, "a tolerance is a fraction"),
        ((full, accumulated, MODEL), {"weights": [1, 2]}, "not list"),
        ((full, accumulated, MODEL), {"weights": {"n": "ab"}}, "weights\\['n'\\] is a number for each micro-batch"),
        ((full, accumulated, MODEL), {"weights": {"n": [1, -1]}}, "numbers from 0 on"),
        ((full, accumulated, MODEL), {"weights": {"n": [1, 2, 3]}}, "3 numbers for 2 backward passes"),
    ],
)
def test_refused(arguments: tuple[Any, ...], options: dict[str, Any], says: str) -> None:
    MODEL.weight.grad = kept = torch.ones_like(MODEL.weight)
    weight, state = MODEL.weight.detach().clone(), torch.get_rng_state()
    with pytest.raises(BatchproofError, match=says) as caught:
        check_gradients(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert MODEL.weight.grad is kept
    assert torch.equal(MODEL.weight, weight)
    assert torch.equal(torch.get_rng_state(), state)


def loader(**options: Any) -> Any:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(12, 3)), **options)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"model": 3}, "the model is a torch module, not int"),
        ({"loader": [1, 2]}, "a torch DataLoader over micro-batches, not list"),
        ({"loader": loader(batch_size=None)}, "has no batch_size"),
        ({"loader": loader(batch_size=12)}, "12 samples are one micro-batch of 12"),
        ({"accumulation_steps": 1}, "accumulation_steps is a whole number from 2 on, not 1"),
        ({"windows": 0}, "windows is a whole number from 1 on"),
        ({"loss_fn": lambda model, batch: model(batch[0])}, "not a tensor of shape \\(8, 1\\)"),
        ({"loss_fn": lambda model, batch: 1.0}, "not float"),
    ],
)
def test_refused_by_the_loop(changed: dict[str, Any], says: str) -> None:
    given = {
        "model": MODEL, "loss_fn": lambda model, batch: model(batch[0]).mean(), "loader": loader(batch_size=2),
        "accumulation_steps": 4,
    }  # fmt: skip
    with pytest.raises(BatchproofError, match=says):
        loop.check(**{**given, **changed})
