"""The noise of models of which each rank holds a part: what the whole model gives, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_gradient_noise_ratio import model_of, sentences, token_mean
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn import functional as F

from batchproof import BatchproofError, gradient_noise
from ranks import spawned


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 1)).double()


def numbers(found: Any) -> tuple[Any, ...]:
    return found.method, found.noise_scale, found.trace, found.signal, found.gradient_norm, found.rows[0].variance.value


def job(rank: int, world: int) -> dict[str, Any]:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = (x, x.sum(1, keepdim=True).sin())
    options: dict[str, Any] = {"batch_sizes": [4], "batches": 5}
    mesh = init_device_mesh("cpu", (world,))
    model = mlp()
    whole = gradient_noise(model, F.mse_loss, data, **options)
    for layer in (model[0], model):
        fully_shard(layer, mesh=mesh)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    told: dict[str, Any] = {
        "whole": numbers(whole),
        "parts": numbers(gradient_noise(model, F.mse_loss, data, **options)),
    }
    told["kept"] = all(bool((p.grad.full_tensor() == 3).all()) for p in model.parameters())
    try:
        gradient_noise(model, F.mse_loss, (x + rank, data[1]), **options)
    except BatchproofError as error:
        told["others"] = str(error)
    try:
        gradient_noise(FullyShardedDataParallel(mlp(), device_id=torch.device("cpu")), F.mse_loss, data, **options)
    except BatchproofError as error:
        told["fsdp"] = str(error)
    words = model_of()
    told["whole words"] = numbers(gradient_noise(words, token_mean, sentences(40), **options))
    fully_shard(words, mesh=mesh)
    told["words"] = numbers(gradient_noise(words, token_mean, sentences(40), **options))
    return told


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    return spawned(job, 2, folder)


def test_a_sharded_model_has_the_noise_of_the_whole_one(found: list[dict[str, Any]]) -> None:
    for told in found:
        assert told["whole"][0] == "per-sample"
        assert told["parts"][0] == "micro-batches"
        assert told["parts"][1:] == pytest.approx(told["whole"][1:], rel=1e-9)
        assert told["words"][0] == told["whole words"][0] == "ratio"
        assert told["words"][1:] == pytest.approx(told["whole words"][1:], rel=1e-6)


def test_gradients_that_were_there_are_there_again(found: list[dict[str, Any]]) -> None:
    assert all(told["kept"] for told in found)


def test_ranks_with_other_samples_are_refused(found: list[dict[str, Any]]) -> None:
    assert all("give every rank the same data" in told["others"] for told in found)


def test_a_model_of_which_a_rank_sees_parts_is_refused(found: list[dict[str, Any]]) -> None:
    """It gave an infinite noise scale."""
    assert all("sharded by FullyShardedDataParallel" in told["fsdp"] for told in found)
