"""Lightning: a ragged last window and a mean of token means are found; windows that come out even pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model_state import changed, held_by
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from batchproof import BatchproofError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:(lightning|pytorch_lightning|torch).*"),
]


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def package(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


def module_of(package: Any, **flags: Any) -> Any:
    class Module(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 4))
            for name, value in flags.items():
                setattr(self, name, value)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            x, y = batch
            loss = cross_entropy(self.net(x).flatten(0, -2), y.flatten())
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1.0)

    return Module()


def loader(padded: bool = False) -> DataLoader[Any]:
    x, y = torch.randn(12, 5, 6), torch.randint(4, (12, 5))
    if padded:
        for index in range(12):
            y[index, 1 + index % 4 :] = -100
    return DataLoader(TensorDataset(x, y), batch_size=2, shuffle=True)


def check(*args: Any, **options: Any) -> Any:
    from batchproof.trainers import lightning

    return lightning.check(*args, **options)


def test_windows_that_come_out_even_pass(package: Any) -> None:
    found = check(module_of(package), loader(), accumulation_steps=3)
    assert found.ok, str(found)
    assert [window.passes for window in found.windows] == [3, 3]
    assert package.__name__.partition(".")[0] in found.ran


def test_a_short_last_window_is_divided_by_the_configured_number(package: Any) -> None:
    found = check(module_of(package), loader(), accumulation_steps=4)
    assert found.cause == "ragged-last-window"
    assert [round(window.ratio, 5) for window in found.windows] == [1, 0.5]


def test_token_means_with_padding(package: Any) -> None:
    found = check(module_of(package), loader(padded=True), accumulation_steps=3)
    assert [finding.code for finding in found.findings] == ["mean-of-means"]
    assert found.weights.fits == ("labels",)


def test_the_module_is_left_as_it_was(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = module_of(package)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    kept = dict(vars(module))
    check(module, loader(), accumulation_steps=4)
    assert vars(module) == kept
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_narrow_precision(package: Any, precision: str) -> None:
    module = module_of(package)
    before, x = held_by(module), torch.randn(3, 6)
    out = module.eval().net(x)
    found = check(module.train(), loader(), accumulation_steps=3, precision=precision)
    assert found.ok, str(found)
    assert found.tolerance == 2e-2 and found.windows[0].difference > 1e-5
    assert changed(before, held_by(module)) == set()
    assert torch.equal(module.eval().net(x), out)
    assert check(module, loader(), accumulation_steps=3).tolerance == 1e-5


def test_refused(package: Any) -> None:
    with pytest.raises(BatchproofError, match="a LightningModule, not Linear"):
        check(nn.Linear(6, 4), loader())
    with pytest.raises(BatchproofError, match="optimizes by hand"):
        check(module_of(package, automatic_optimization=False), loader())
