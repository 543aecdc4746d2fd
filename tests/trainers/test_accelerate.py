"""accelerate: a ragged last window and a mean of token means are found; windows that come out even pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("accelerate")

from tests.model_state import changed, held_by

from batchproof import BatchproofError
from batchproof.trainers import accelerate

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:(accelerate|torch).*")


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x).flatten(0, -2), y.flatten())


def train(accelerator: Any, model: Any, optimizer: Any, loader: Any) -> None:
    for x, y in loader:
        with accelerator.accumulate(model):
            accelerator.backward(loss_of(model, x, y))
            optimizer.step()
            optimizer.zero_grad()


def loader(padded: bool = False) -> DataLoader[Any]:
    x, y = torch.randn(12, 5, 6), torch.randint(4, (12, 5))
    if padded:
        for index in range(12):
            y[index, 1 + index % 4 :] = -100
    return DataLoader(TensorDataset(x, y), batch_size=2, shuffle=True)


def test_windows_that_come_out_even_pass() -> None:
    found = accelerate.check(train, nn.Linear(6, 4), loader(), accumulation_steps=3)
    assert found.ok, str(found)
    assert [window.passes for window in found.windows] == [3, 3]


def test_a_short_last_window_is_divided_by_the_configured_number() -> None:
    found = accelerate.check(train, nn.Linear(6, 4), loader(), accumulation_steps=4)
    assert found.cause == "ragged-last-window"
    assert [round(window.ratio, 5) for window in found.windows] == [1, 0.5]


def test_token_means_with_padding() -> None:
    found = accelerate.check(train, nn.Linear(6, 4), loader(padded=True), accumulation_steps=3)
    assert [finding.code for finding in found.findings] == ["mean-of-means"]
    assert found.weights is not None and found.weights.fits == ("labels",)
    found = accelerate.check(train, nn.Linear(6, 4), loader(padded=True), accumulation_steps=4)
    assert [finding.code for finding in found.findings] == ["mean-of-means", "ragged-last-window"]


def test_a_loop_that_divides_once_more() -> None:
    def again(accelerator: Any, model: Any, optimizer: Any, loader: Any) -> None:
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, x, y) / accelerator.gradient_accumulation_steps)
                optimizer.step()
                optimizer.zero_grad()

    assert accelerate.check(again, nn.Linear(6, 4), loader(), accumulation_steps=3).cause == "divided-twice"


def test_an_accelerator_that_is_there_stays_as_it_was() -> None:
    from accelerate import Accelerator

    own = Accelerator(cpu=True, gradient_accumulation_steps=7)
    model = nn.Linear(6, 4)
    weight = model.weight.detach().clone()
    accelerate.check(train, model, loader(), accumulation_steps=3)
    assert own.gradient_accumulation_steps == 7
    assert torch.equal(model.weight, weight)
    assert model.weight.grad is None


def test_mixed_precision() -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    before, x = held_by(model), torch.randn(3, 6)
    out = model(x)
    found = accelerate.check(train, model, loader(), accumulation_steps=3, mixed_precision="bf16")
    assert found.ok, str(found)
    assert found.tolerance == 2e-2 and found.windows[0].difference > 1e-5
    assert changed(before, held_by(model)) == set()
    assert torch.equal(model(x), out)
    # and the next one is not bound to it
    assert accelerate.check(train, model, loader(), accumulation_steps=3).tolerance == 1e-5
    assert not AcceleratorState._shared_state


def test_refused() -> None:
    with pytest.raises(BatchproofError, match="train is a function that runs one epoch, not int"):
        accelerate.check(3, nn.Linear(6, 4), loader())  # type: ignore[arg-type]
