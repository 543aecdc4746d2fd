"""Models: which submodule couples the samples of a batch, and that looking leaves no trace."""

from __future__ import annotations

import copy
import inspect
import random

import pytest
import torch
from torch import Tensor, nn

from batchproof import Explanation, explain


class Net(nn.Module):
    """Two layers; what else is up to its flags."""

    def __init__(self, normalise: bool = False, softmax_dim: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.bn1 = nn.BatchNorm1d(8) if normalise else nn.Identity()
        self.drop = nn.Dropout(0.5)
        self.second = nn.Linear(8, 3)
        self.bn2 = nn.BatchNorm1d(3) if normalise else nn.Identity()
        self.softmax_dim = softmax_dim

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(torch.relu(self.bn1(self.first(x))))
        x = self.bn2(self.second(x))
        return torch.softmax(x, dim=self.softmax_dim)


def look(model: nn.Module, n: int = 40) -> Explanation:
    return explain(model, torch.randn(n, 6))


def test_dropout_is_no_coupling() -> None:
    found = look(Net())
    assert (found.kind, found.is_safe, found.verdict) == ("model", True, "independent")
    assert found.curve is None


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.InstanceNorm1d(6)])
def test_norms_within_a_sample_are_safe(norm: nn.Module) -> None:
    assert explain(norm, torch.randn(20, 6, 5) if not isinstance(norm, nn.LayerNorm) else torch.randn(20, 6)).is_safe


def test_batch_norm_in_training_mode_is_named_and_eval_mends_it() -> None:
    found = look(Net(normalise=True))
    assert (found.is_safe, found.verdict) == (False, "couples")
    assert found.findings[0].title == ("bn1 (BatchNorm1d, training mode) and 1 more BatchNorm1d in training mode")
    assert found.findings[0].place is not None
    assert "self.bn1(" in found.findings[0].place.text
    assert "in training mode only" in found.headline
    assert found.use == ("model.eval()",)
    assert look(Net(normalise=True).eval()).is_safe is True


def test_how_far_the_outputs_move_with_the_batch_size() -> None:
    found = look(Net(normalise=True))
    assert found.curve is not None
    changes = {reading.size: reading for reading in found.curve.readings}
    assert changes[1].raised is not None
    assert "more than 1 value" in changes[1].raised
    assert changes[2].mean > changes[32].mean > changes[40].mean == 0


def test_a_softmax_over_the_batch_is_named_with_its_line() -> None:
    found = look(Net(softmax_dim=0))
    assert found.is_safe is False
    assert found.findings[0].title == "the model itself (Net, training mode)"
    assert "softmax runs over the samples" in found.findings[0].what
    place = found.findings[0].place
    assert place is not None
    lines, first = inspect.getsourcelines(Net.forward)
    assert place.line == first + len(lines) - 1
    assert "in eval mode too" in found.headline


def test_both_causes_are_found() -> None:
    found = look(Net(normalise=True, softmax_dim=0))
    assert [finding.title.split(" (")[0] for finding in found.findings] == ["bn1", "the model itself"]


def test_a_softmax_module_over_the_batch() -> None:
    found = look(nn.Sequential(nn.Linear(6, 3), nn.Softmax(dim=0)))
    assert found.findings[0].title.startswith("1 (Softmax")


def test_nothing_is_left_behind() -> None:
    model = Net(normalise=True)
    model.drop.eval()
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    data = torch.randn(40, 6)
    state = torch.get_rng_state()
    explain(model, data)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


class Experts(nn.Module):
    def __init__(self, squared: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 4)
        self.squared = squared

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.gate(x).softmax(1)
        return gates, gates.mean(0).square().sum() if self.squared else gates.square().mean()


def test_a_value_for_the_whole_batch_comes_before_those_of_samples() -> None:
    found = look(Experts(squared=True))
    assert (found.is_safe, found.kind, found.verdict) == (False, "function", "nonlinear")
    assert any("the outputs with a value for each sample: " in note and " is safe: " in note for note in found.notes)
    safe = look(Experts(squared=False))
    assert safe.is_safe is True
    assert any("the outputs with a value for each sample: " in note and " is safe: " in note for note in safe.notes)


def test_samples_that_meet_are_found_beside_a_loss_that_is_a_mean() -> None:
    class Centred(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": x.square().mean(), "out": x - x.mean(0)}

    found = look(Centred())
    assert (found.is_safe, found.kind, found.verdict) == (False, "model", "couples")
    assert any("the outputs with one value for the batch: " in note and " is safe: " in note for note in found.notes)


def test_a_batch_that_is_not_the_first_dimension_is_followed() -> None:
    class Attention(nn.Module):
        def __init__(self, over_batch: bool) -> None:
            super().__init__()
            self.over_batch = over_batch

        def forward(self, x: Tensor) -> Tensor:
            turned = x.transpose(0, 1)
            weights = turned.softmax(dim=1 if self.over_batch else 0)
            return (weights * turned).transpose(0, 1)

    assert look(Attention(over_batch=False)).is_safe is True
    assert look(Attention(over_batch=True)).is_safe is False


def test_a_function_of_rows_is_looked_at_like_a_model() -> None:
    def centred(x: Tensor) -> Tensor:
        return x - x.mean(0)

    found = explain(centred, torch.randn(30, 6))
    assert (found.kind, found.is_safe) == ("model", False)
    assert found.findings[0].place is not None
    assert "x.mean(0)" in found.findings[0].place.text
    assert explain(lambda x: x - x.mean(1, keepdim=True), torch.randn(30, 6)).is_safe is True


def test_a_write_in_place_does_not_hide_the_cause() -> None:
    def standardised(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        out[:] = x
        out[:, 0] -= x[:, 0].mean()
        return out

    found = explain(standardised, torch.randn(30, 6))
    assert found.is_safe is False
    assert found.findings[0].place is not None
    assert "mean()" in found.findings[0].place.text


def test_runs_that_differ_by_themselves_cannot_be_told() -> None:
    chance = random.SystemRandom()
    found = explain(lambda x: x * chance.random(), torch.randn(30, 6))
    assert (found.is_safe, found.verdict) == (None, "random")
    assert found.findings[0].code == "random"


def test_what_a_function_counts_is_a_state() -> None:
    calls = []

    def counting(x: Tensor) -> Tensor:
        calls.append(1)
        return x * len(calls)

    found = explain(counting, torch.randn(30, 6))
    assert (found.is_safe, found.verdict) == (False, "state")
    assert "the variable calls" in found.findings[0].what
    assert calls == []


def test_token_ids_are_perturbed_too() -> None:
    model = nn.Sequential(nn.Embedding(50, 6), nn.BatchNorm1d(7))
    found = explain(model, torch.randint(0, 50, (30, 7)))
    assert found.findings[0].title.startswith("1 (BatchNorm1d")


class Projected(nn.Module):
    """A loss with a projector that trains, as those of self-supervision have."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.projector = nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, 4))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        features = self.projector(x)
        centre = features.mean()
        return (features - y).square().mean() + 0 * centre


def test_batchnorm_inside_of_a_loss_is_blamed_by_its_name() -> None:
    loss = Projected(nn.BatchNorm1d(8), nn.ReLU())
    found = explain(loss, torch.randn(64, 4), torch.randn(64, 4))
    assert (found.is_safe, found.verdict) == (False, "couples")
    assert found.findings[0].title == "projector.1 (BatchNorm1d, training mode)"
    assert found.findings[0].place is not None
    assert "self.projector(x)" in found.findings[0].place.text
    assert loss.projector[1].num_batches_tracked == 0, "left as it was"
    assert explain(Projected(nn.LayerNorm(8)), torch.randn(64, 4), torch.randn(64, 4)).is_safe is True
