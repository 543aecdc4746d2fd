"""While a function is analysed, everything floating is float64, and the function does not see it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from batchproof.derive.record import record
from functions import normal, table
from promise import Function, promise

torch.manual_seed(0)
CONVOLUTION = nn.Conv2d(2, 3, 3).requires_grad_(False)
NETWORK = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Upsample(scale_factor=2)).eval()
TRANSFORMER = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
TABLE = nn.Embedding(10, 4)


def loss(outputs: Tensor) -> Tensor:
    return outputs.square().mean().sqrt()


@table(
    ("matrix of ones", lambda x: loss(x.flatten(1) @ torch.ones(128, 1) / 128)),
    ("kernel of a filter", lambda x: loss(F.conv2d(x, torch.ones(1, 2, 3, 3) / 18))),
    ("convolution with a bias", lambda x: loss(CONVOLUTION(x))),
    ("layers and buffers", lambda x: loss(NETWORK(x))),
    ("attention", lambda x: loss(TRANSFORMER(x.reshape(-1, 16, 8)))),
    ("bilinear form", lambda x: loss(F.bilinear(x[:, 0, 0], x[:, 1, 0], torch.ones(2, 8, 8), torch.zeros(2)))),
    ("range", lambda x: loss(x @ torch.linspace(0, 1, 8))),
    ("interpolated grid", lambda x: loss(F.grid_sample(x, torch.zeros(len(x), 2, 2, 2), align_corners=True))),
)
def test_constants_and_weights_of_float32_meet_samples_that_are_analysed_in_float64(fn: Function) -> None:
    promise(torch.no_grad()(fn), normal(120, 2, 8, 8, dtype=torch.float32), constant=True)


def test_whole_numbers_meet_weights_of_float32() -> None:
    def similar(ids: Tensor) -> Tensor:
        return loss(F.cosine_similarity(TABLE(ids), torch.ones(4), dim=-1))

    promise(torch.no_grad()(similar), torch.arange(200) % 10, constant=True)


def test_the_tensor_from_outside_is_the_one_that_is_captured() -> None:
    """It is read again in each fold, and may get a gradient: a copy would be neither current nor the parameter."""
    run = record(CONVOLUTION, [torch.zeros(4, 2, 8, 8)], shown=torch.float32)
    assert {id(tensor) for tensor in run.captured.values()} == {id(CONVOLUTION.weight), id(CONVOLUTION.bias)}
    assert all(run.tensors[index].dtype is torch.float64 for index in run.captured)
