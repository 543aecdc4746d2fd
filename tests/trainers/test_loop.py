"""The driver of a plain loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from batchproof.trainers import loop

X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(model(x), y)


def loader(size: int = 2, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=size, shuffle=True, **options)


def test_windows_that_come_out_even_are_right() -> None:
    found = loop.check(nn.Linear(6, 4), loss_fn, loader(), accumulation_steps=3)
    assert found.ok
    assert [window.passes for window in found.windows] == [3, 3]
    assert found.target == "Linear: 3 micro-batches against one batch"
    assert "12 samples in micro-batches of 2" in found.ran


def test_a_short_last_window() -> None:
    found = loop.check(nn.Linear(6, 4), loss_fn, loader(), accumulation_steps=4)
    assert found.cause == "ragged-last-window"
    assert "2 of 4 micro-batches" in found.findings[0].what
    assert [window.is_same for window in found.windows] == [True, False]
    assert "the gradient of the last optimizer step is 1/2 of that" in found.summary


def test_a_short_last_micro_batch() -> None:
    found = loop.check(nn.Linear(6, 4), loss_fn, loader(5), accumulation_steps=3)
    assert found.cause == "mean-of-means"
    assert found.weights is not None and found.weights.fits[0] == "samples"
    assert found.weights.counts["samples"] == (5, 5, 2)
    assert loop.check(nn.Linear(6, 4), loss_fn, loader(5, drop_last=True), accumulation_steps=2).ok


def test_a_step_of_ones_own() -> None:
    model = nn.Linear(6, 4)

    def step(batches: list[Any], _: int) -> None:
        for batch in batches:
            (loss_fn(model, batch) / len(batches)).backward()  # type: ignore[no-untyped-call]

    found = loop.check(model, loss_fn, loader(), accumulation_steps=4, step=step)
    assert found.ok
    assert "own step" in found.ran

    def forgetful(batches: list[Any], _: int) -> None:
        for batch in batches:
            loss_fn(model, batch).backward()  # type: ignore[no-untyped-call]

    assert loop.check(model, loss_fn, loader(), accumulation_steps=4, step=forgetful).cause == "missing-division"


def test_what_else_to_count() -> None:
    weight = torch.tensor([1.0, 4.0, 0.5, 2.0])

    def weighted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1], weight=weight)

    found = loop.check(
        nn.Linear(6, 4), weighted, loader(3), accumulation_steps=2,
        count=lambda batch: {"class weights": float(weight[batch[1]].sum())},
    )  # fmt: skip
    assert found.weights is not None and found.weights.fits == ("class weights",)


def test_dropout_is_off_unless_it_is_wanted() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 4))
    assert loop.check(model, loss_fn, loader(), accumulation_steps=3).ok
    assert loop.check(model, loss_fn, loader(), accumulation_steps=3, dropout=True).cause == "random-state"
    assert [layer.p for layer in model if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Any:
        return iter(zip(X, Y))


def test_samples_that_only_come_in_a_row() -> None:
    stream: DataLoader[Any] = DataLoader(Stream(), batch_size=2)
    assert loop.check(nn.Linear(6, 4), loss_fn, stream, accumulation_steps=2, windows=2).ok


def test_of_a_long_epoch_the_start_and_the_end() -> None:
    data = TensorDataset(torch.randn(103, 6), torch.arange(103) % 4)
    found = loop.check(nn.Linear(6, 4), loss_fn, DataLoader(data, batch_size=2), accumulation_steps=4)
    assert [window.passes for window in found.windows] == [4, 4, 4]
    assert [window.is_same for window in found.windows] == [True, True, False]  # the last micro-batch holds one sample


def test_several_windows_have_several_factors() -> None:
    model = nn.Linear(6, 4)

    def step(batches: list[Any], _: int) -> None:
        for batch in batches:
            ((3.3 if len(batches) > 1 else 1) * loss_fn(model, batch)).backward()  # type: ignore[no-untyped-call]

    found = loop.check(model, loss_fn, loader(), accumulation_steps=4, step=step)
    assert found.cause == "constant-factor"
    assert "is 13.2 times the full one (at other optimizer steps 6.6)" in found.findings[0].what


def test_what_is_counted_is_asked_for_by_the_option_of_the_driver() -> None:
    def weighted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return cross_entropy(model(x), y, weight=torch.tensor([1.0, 5.0, 0.2, 2.0]))

    found = loop.check(nn.Linear(6, 4), weighted, loader(), accumulation_steps=3)
    assert found.cause == "mean-of-means"
    assert "Pass count=" in found.remedy and "weights=" not in found.remedy
