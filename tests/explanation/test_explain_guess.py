"""Example inputs guessed from names: tried on real functions, shown in the report, refused where nothing fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor, nn

from batchproof import BatchproofError, explain
from batchproof.explanation.guess import guess_samples, role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("pred", "prediction"),
        ("y_hat", "prediction"),
        ("y_pred", "prediction"),
        ("input", "prediction"),
        ("real", "target"),
        ("y", "target"),
        ("y_true", "target"),
        ("target_lengths", "length"),
        ("labels", "labels"),
        ("logits", "logits"),
        ("probs", "probabilities"),
        ("pad_mask", "mask"),
        ("sample_weight", "weight"),
        ("z1", "embedding"),
        ("anchor", "embedding"),
        ("img", "image"),
    ],
)
def test_what_a_name_holds(name: str, role: str) -> None:
    assert role_of(name) == role


FUNCTIONS: list[tuple[Any, list[tuple[int, ...]]]] = [
    (F.mse_loss, [(500,), (500,)]),
    (F.cross_entropy, [(500, 5), (500,)]),
    (F.nll_loss, [(500, 5), (500,)]),
    (F.binary_cross_entropy, [(500,), (500,)]),
    (F.triplet_margin_loss, [(500, 6), (500, 6), (500, 6)]),
    (nn.CrossEntropyLoss(), [(500, 5), (500,)]),
    (torchmetrics.Accuracy(task="multiclass", num_classes=5), [(500, 5), (500,)]),
    (torchmetrics.R2Score(), [(500,), (500,)]),
    (nn.Sequential(nn.Linear(6, 3)), [(32, 6)]),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), [(32, 3, 16, 16)]),
    (nn.Sequential(nn.Embedding(10, 4)), [(32, 7)]),
    (nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), [(32, 784)]),
    (nn.BatchNorm2d(3), [(32, 3, 8, 8)]),
]


@pytest.mark.parametrize(("fn", "shapes"), FUNCTIONS, ids=[type(fn).__name__ for fn, _ in FUNCTIONS])
def test_guesses_fit(fn: Any, shapes: list[tuple[int, ...]]) -> None:
    assert [tuple(value.shape) for value in guess_samples(fn)] == shapes


def test_masks_weights_and_numbers() -> None:
    def loss(pred: Tensor, target: Tensor, mask: Tensor, weight: Tensor, gamma: float) -> Tensor:
        assert mask.dtype is torch.bool
        return (weight * (pred - target).abs() ** gamma)[mask].mean()

    pred, target, mask, weight, gamma = guess_samples(loss)
    assert mask.shape == weight.shape == pred.shape
    assert gamma == 2.0
    assert torch.corrcoef(torch.stack([pred, target]))[0, 1] > 0.5, "a prediction leans towards its target"


def test_guesses_are_shown_and_given_data_is_not() -> None:
    guessed = explain(F.mse_loss)
    assert all(given.guessed for given in guessed.inputs)
    assert "guessed inputs: " in str(guessed)
    assert "guessed" not in str(explain(F.mse_loss, torch.zeros(9), torch.ones(9)))


def test_a_user_asks_for_something_that_no_guess_fits() -> None:
    def impossible(tree: Tensor) -> Tensor:
        raise RuntimeError("needs a tree")

    with pytest.raises(BatchproofError, match=r"no guessed inputs fit impossible\(tree\).*needs a tree"):
        explain(impossible)


def psnr(p: Tensor, t: Tensor) -> float:
    error = float((p - t).square().mean())
    return 100.0 if error == 0 else -10 * math.log10(error)


def gate_imbalance(gates: Tensor) -> Tensor:
    load = gates.sum(0)
    return torch.zeros(()) if load.ndim == 0 else load.var() / load.mean() ** 2


def mean_square(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean()


@pytest.mark.parametrize("fn", [psnr, gate_imbalance, mean_square])
def test_what_was_guessed_is_never_called_safe(fn: Callable[..., Any]) -> None:
    found = explain(fn)
    assert found.is_safe is not True
    assert found.exit_status != 0
    assert fn is not mean_square or "looks safe on guessed inputs: " in found.headline
