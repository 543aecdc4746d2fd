"""Each cause of a wrong accumulated gradient, made on purpose: it is found and named."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from tests.model_state import changed, held_by
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

import batchproof
from batchproof import GradientCheck, check_gradients
from batchproof.gradients.check import MicroBatchWeights, ParameterGradient, WindowGradient
from batchproof.report.forms import render
from batchproof.testing import assert_same_gradients

Loss = Callable[[Tensor, Tensor], Tensor]
N, PARTS = 32, 4
COUNTS = {"samples": [8.0] * PARTS}


def net(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), *layers, nn.ReLU(), nn.Linear(12, 5)).double()


class Runs:
    """A model with its two runs, wrong by ``scale``: from a micro-batch's loss and their number."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = cross_entropy,
        scale: Callable[[Tensor, int], Tensor] = lambda loss, parts: loss / parts,
        labels: Tensor | None = None,
    ) -> None:
        self.model, self.loss, self.scale = model, loss, scale
        dtype = next(model.parameters()).dtype
        self.x = torch.randn(N, 6, dtype=dtype)
        self.y = torch.arange(N) % 5 if labels is None else labels

    def full(self) -> None:
        self.loss(self.model(self.x), self.y).backward()

    def accumulated(self) -> None:
        for x, y in zip(self.x.chunk(PARTS), self.y.chunk(PARTS)):
            self.scale(self.loss(self.model(x), y), PARTS).backward()

    def check(self, **options: object) -> GradientCheck:
        return check_gradients(self.full, self.accumulated, self.model, **options)  # type: ignore[arg-type]


def ragged_labels() -> tuple[Tensor, list[float]]:
    labels = torch.arange(N) % 5
    for part, ignored in enumerate((1, 6, 3, 0)):
        labels[8 * part : 8 * part + ignored] = -100
    return labels, [7.0, 2.0, 5.0, 8.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_same_gradient_passes(dtype: torch.dtype) -> None:
    found = Runs(net().to(dtype)).check()
    assert found.ok and found.cause is None and found.remedy == "" and not found.findings
    assert all(row.is_same and abs(row.ratio - 1) < 0.02 for row in found.parameters)
    assert [window.passes for window in found.windows] == [PARTS]
    assert found.summary.startswith("the gradient is that of the whole batch")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("factor", "cause"),
    [(PARTS, "missing-division"), (1 / PARTS, "divided-twice"), (1.001, "constant-factor"), (-1, "constant-factor")],
)
def test_one_factor(factor: float, cause: str, dtype: torch.dtype) -> None:
    found = Runs(net().to(dtype), scale=lambda loss, parts: factor * loss / parts).check()
    assert not found.ok
    assert found.cause == cause
    assert all(row.ratio == pytest.approx(factor, rel=1e-5) for row in found.parameters)
    assert all(abs(row.cosine) == pytest.approx(1) for row in found.parameters)


@pytest.mark.parametrize(
    ("factor", "what"),
    [
        (8, "the samples of a micro-batch (8)"),
        (32, "all samples (32)"),
        (1 / 32, "1 over all samples (32)"),
        (16, "the square of the number of micro-batches (4)"),
        (2.0**12, "a power of 2, as the scale of a GradScaler that was not taken out"),
        (3.3, "3.3 equals no number that was counted here"),
    ],
)
def test_a_factor_is_called_by_what_it_equals(factor: float, what: str) -> None:
    found = Runs(net(), scale=lambda loss, parts: factor * loss / parts).check(weights=COUNTS)
    assert found.cause == "constant-factor"
    assert what in found.findings[0].what


def test_clipping() -> None:
    runs = Runs(net())

    def accumulated() -> None:
        runs.accumulated()
        nn.utils.clip_grad_norm_(runs.model.parameters(), 0.1)

    found = check_gradients(runs.full, accumulated, runs.model)
    # the clip adds a millionth to the norm
    assert (found.cause, found.findings[0].what.split("norm of ")[1][:3]) == ("clipped", "0.1")


def test_a_mean_of_means_with_and_without_counts() -> None:
    labels, counted = ragged_labels()
    runs = Runs(net(), labels=labels)
    found = runs.check(weights={**COUNTS, "tokens": counted})
    assert found.cause == "mean-of-means"
    assert found.weights is not None and found.weights.fits == ("tokens",)
    assert found.weights.factors == pytest.approx([PARTS * count / sum(counted) for count in counted])
    assert "by the tokens of all micro-batches together; batchproof.accumulate" in found.remedy

    unknown = runs.check()
    assert unknown.cause == "mean-of-means"
    assert unknown.weights is not None and unknown.weights.fits == ()
    assert unknown.weights.factors == pytest.approx(found.weights.factors)
    assert "weights={'tokens': [...]}" in unknown.remedy

    wrong = runs.check(weights=COUNTS)
    assert wrong.weights is not None and wrong.weights.fits == ()


def test_class_weights_are_found() -> None:
    weight = torch.tensor([1.0, 5.0, 0.2, 2.0, 3.0], dtype=torch.float64)
    labels = torch.arange(N).div(7, rounding_mode="floor")
    sums = [float(weight[part].sum()) for part in labels.chunk(PARTS)]
    runs = Runs(net(), partial(cross_entropy, weight=weight), labels=labels)
    found = runs.check(weights={**COUNTS, "class weights": sums})
    assert found.weights is not None and found.weights.fits == ("class weights",)


def test_weighted_by_samples_where_tokens_were_right() -> None:
    labels, counted = ragged_labels()
    sizes = [4, 12, 6, 10]
    counted = [float((part != -100).sum()) for part in labels.split(sizes)]
    runs = Runs(net(), labels=labels)

    def accumulated() -> None:
        for x, y in zip(runs.x.split(sizes), runs.y.split(sizes)):
            (cross_entropy(runs.model(x), y) * len(y) / N).backward()

    found = check_gradients(
        runs.full, accumulated, runs.model, weights={"samples": [float(n) for n in sizes], "tokens": counted}
    )
    assert found.weights is not None and found.weights.fits == ("tokens in place of samples",)


def test_not_divided_and_a_mean_of_means() -> None:
    labels, counted = ragged_labels()
    found = Runs(net(), scale=lambda loss, _: loss, labels=labels).check(weights={"tokens": counted})
    assert [finding.code for finding in found.findings] == ["missing-division", "mean-of-means"]


def test_a_root_of_a_mean_has_weights_that_are_no_counts() -> None:
    found = Runs(net(), lambda out, y: out.square().mean().sqrt()).check(weights=COUNTS)
    assert found.cause == "mean-of-means"
    assert found.weights is not None and found.weights.fits == ()
    assert any("a root" in text for text in found.alternatives)


def contrastive(out: Tensor, _: Tensor) -> Tensor:
    unit = normalize(out, dim=1)
    return cross_entropy(unit @ unit.T, torch.arange(len(unit)).roll(1))


def test_a_loss_that_couples_samples() -> None:
    found = Runs(net(), contrastive).check(weights=COUNTS)
    assert found.cause == "coupled"
    assert found.weights is None
    assert found.alternatives
    assert "batchproof.accumulate" in found.remedy


def test_too_few_numbers_to_tell_weights() -> None:
    model = nn.Linear(6, 1, bias=False).double()
    found = Runs(model, lambda out, y: out.square().mean().sqrt().exp()).check()
    assert found.cause == "another-gradient"


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.log_scale = nn.Linear(6, 6), nn.Linear(6, 6), nn.Parameter(torch.tensor(0.3))
        self.head.weight = self.body.weight
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu()) * self.log_scale.exp()


def test_parameters_that_are_all_off_by_little_are_not_a_few() -> None:
    """Those with small gradients are off by the same share as the others, however near it is to the tolerance."""
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 5))
    runs = Runs(model)
    weights = [p for p in model.parameters() if p.dim() > 1]

    def accumulated() -> None:
        runs.accumulated()
        for p in model.parameters():
            assert p.grad is not None
            p.grad += (3e-5 if p is weights[0] else 0.9e-5) * p.grad.norm() / p.numel() ** 0.5

    found = check_gradients(runs.full, accumulated, model)
    assert [row.name for row in found.parameters if not row.is_same] == ["0.weight"]
    assert found.cause == "changed-between"


@pytest.mark.parametrize("share", [1e-5, 3e-4])
def test_a_small_difference_along_the_gradient_is_no_factor(share: float) -> None:
    model = net()
    runs = Runs(model)

    def accumulated() -> None:
        for x, y in zip(runs.x.chunk(PARTS), runs.y.chunk(PARTS)):
            (cross_entropy(model(x), y) / PARTS + share * model(x).mean(0).square().sum()).backward()

    found = check_gradients(runs.full, accumulated, model)
    assert "off by" in found.summary and " times that" not in found.summary and "1/1" not in found.summary


def test_only_the_last_pass_is_left_of_a_model_with_few_numbers() -> None:
    model = nn.Linear(6, 1).double()
    runs = Runs(model, lambda out, _: out.square().mean())

    def cleared() -> None:
        for part in runs.x.chunk(PARTS):
            model.zero_grad()
            (model(part).square().mean() / PARTS).backward()

    found = check_gradients(runs.full, cleared, model)
    assert found.cause == "cleared-between" and "only the last is left" in found.findings[0].what


def test_a_pass_within_a_pass_is_a_part_of_it() -> None:
    """Reentrant checkpointing goes back through each part by a pass of its own."""
    labels, counted = ragged_labels()

    class Checkpointed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for part in self:
                x = torch.utils.checkpoint.checkpoint(part, x, use_reentrant=True)
            return x

    def run(runs: Runs) -> GradientCheck:
        runs.x.requires_grad_()
        return runs.check(weights={"tokens": counted})

    found = run(Runs(Checkpointed(*net()), labels=labels))
    assert found.windows[0].passes == PARTS
    assert found.weights is not None and found.weights.fits == ("tokens",)


def test_a_shared_parameter() -> None:
    runs = Runs(Shared(), scale=lambda loss, _: loss)

    def accumulated() -> None:
        runs.accumulated()
        for _, parameter in runs.model.named_parameters(remove_duplicate=False):
            assert parameter.grad is not None
            parameter.grad /= PARTS

    found = check_gradients(runs.full, accumulated, runs.model)
    assert found.cause == "shared-parameter"
    assert "body.weight alone is off, 1/4 of what it should be" in found.findings[0].what
    assert "shared by body.weight and head.weight" in found.findings[0].what
    assert [row.name for row in found.parameters if not row.is_same] == ["body.weight"]


@pytest.mark.parametrize("penalty", [lambda scale: 3 * scale, lambda scale: (3 * scale).exp()])
def test_a_parameter_of_the_loss(penalty: Callable[[Tensor], Tensor]) -> None:
    model = Shared()
    runs = Runs(model)

    def full() -> None:
        runs.full()
        penalty(model.log_scale).backward()

    def accumulated() -> None:
        for x, y in zip(runs.x.chunk(PARTS), runs.y.chunk(PARTS)):
            (cross_entropy(model(x), y) / PARTS + penalty(model.log_scale)).backward()

    found = check_gradients(full, accumulated, model)
    assert found.cause == "one-parameter"
    assert "log_scale" in found.summary
    assert [row.name for row in found.parameters if not row.is_same] == ["log_scale"]


def test_as_if_once_for_each_micro_batch() -> None:
    model = Shared()
    runs = Runs(model)

    def accumulated() -> None:
        runs.accumulated()
        assert model.log_scale.grad is not None
        model.log_scale.grad *= PARTS

    found = check_gradients(runs.full, accumulated, model)
    assert "4 times what it should be, as if it were added once for each micro-batch" in found.findings[0].what


def test_dropout_alone_and_dropout_with_a_cause() -> None:
    def noisy(out: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(out, y)

    # two layers, so that the masks of micro-batches are drawn in another order
    layers = nn.Dropout(0.3), nn.Linear(12, 12), nn.Dropout(0.3)
    found = Runs(net(*layers), noisy).check()
    assert found.cause == "random-state"
    assert "without dropout the two gradients are equal" in found.findings[0].what
    assert all(layer.p == 0.3 for layer in layers if isinstance(layer, nn.Dropout))

    labels, counted = ragged_labels()
    found = Runs(net(*layers), noisy, labels=labels).check(weights={"tokens": counted})
    assert found.cause == "mean-of-means"
    assert any("dropout is off" in note for note in found.notes)


@pytest.mark.parametrize("draw", [lambda: torch.rand(()).item(), random.random, lambda: float(np.random.rand())])
def test_other_random_numbers(draw: Callable[[], float]) -> None:
    found = Runs(net(), lambda out, y: cross_entropy(out * draw(), y)).check()
    assert found.cause == "random-state"
    assert found.alternatives


def test_a_run_that_never_gives_the_same() -> None:
    calls = iter(range(1000))
    found = Runs(net(), lambda out, y: cross_entropy(out * (1 + next(calls)), y)).check()
    assert found.cause == "nondeterministic"


def test_batch_norm() -> None:
    norm = nn.BatchNorm1d(12)
    found = Runs(net(norm)).check()
    assert found.cause == "batch-norm"
    assert "1 normalises" in found.findings[0].what
    assert norm.training and "train" not in vars(norm)

    found = Runs(net(nn.BatchNorm1d(12)), contrastive).check()
    assert found.cause == "coupled"
    assert any("BatchNorm" in text for text in found.alternatives)
    assert Runs(net(nn.BatchNorm1d(12)).eval()).check().ok


def test_batch_norm_beside_another_cause() -> None:
    found = Runs(net(nn.BatchNorm1d(12)), scale=lambda loss, _: loss).check()
    assert [finding.code for finding in found.findings] == ["missing-division", "batch-norm"]
    assert "in evaluation mode the above is all that is left" in found.findings[1].what
    assert any("BatchNorm is in evaluation mode" in note for note in found.notes)

    labels, counted = ragged_labels()
    found = Runs(net(nn.BatchNorm1d(12)), labels=labels).check(weights={"tokens": counted})
    assert [finding.code for finding in found.findings] == ["mean-of-means", "batch-norm"]
    assert found.weights is not None and found.weights.fits == ("tokens",)

    found = Runs(net(nn.BatchNorm1d(12)).eval(), labels=labels).check(weights={"tokens": counted})
    assert [finding.code for finding in found.findings] == ["mean-of-means"]


def test_dropout_beside_a_missing_division() -> None:
    layers = nn.Dropout(0.3), nn.Linear(12, 12), nn.Dropout(0.3)
    found = Runs(net(*layers), scale=lambda loss, _: loss).check()
    assert [finding.code for finding in found.findings] == ["missing-division"]


class Skipping(nn.Module):
    """Leaves out its layer now and then; ``rate`` is in its settings, or written into the code."""

    def __init__(self, **settings: float) -> None:
        super().__init__()
        self.config = SimpleNamespace(text_config=SimpleNamespace(**settings))
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 5)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        rate = getattr(self.config.text_config, "layerdrop", 0.5)
        return self.head(x if torch.rand(()) < rate else self.layer(x))


@pytest.mark.parametrize("seed", range(4))
def test_a_gradient_that_is_missing_now_and_then_is_random(seed: int) -> None:
    torch.manual_seed(seed)
    model = Skipping()
    runs = Runs(model, scale=lambda loss, _: loss)
    found = runs.check()
    assert found.cause == "random-state"

    model = Skipping(layerdrop=0.5)
    runs = Runs(model, scale=lambda loss, _: loss)
    found = runs.check()
    # with either path met or not, the cause is told with none left out
    assert found.cause == "missing-division"
    assert model.config.text_config.layerdrop == 0.5


def test_a_gradient_is_missing_in_one_run() -> None:
    model = Shared()
    runs = Runs(model)

    def accumulated() -> None:
        runs.accumulated()
        model.log_scale.grad = None

    found = check_gradients(runs.full, accumulated, model)
    assert found.cause == "missing-gradient"
    assert "log_scale has no gradient in the accumulated run" in found.findings[0].what
    row = found.parameters[0]
    assert (row.name, row.accumulated) == ("log_scale", None)
    found = check_gradients(accumulated, runs.full, model)
    assert "in the whole-batch run" in found.findings[0].what


def test_no_gradient_and_zeros_are_the_same() -> None:
    model = Shared()
    runs = Runs(model)

    def accumulated() -> None:
        runs.accumulated()
        model.unused.grad = torch.zeros_like(model.unused)

    model.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    assert check_gradients(runs.full, accumulated, model).ok


def test_a_micro_batch_without_labels() -> None:
    labels = torch.arange(N) % 5
    labels[:8] = -100  # torch's loss is NaN there, and its gradient 0
    found = Runs(net(), labels=labels).check()
    assert found.cause == "empty-micro-batches"
    assert "1 of 4 micro-batches bring a gradient of 0" in found.findings[0].what


def test_a_micro_batch_without_labels_and_no_division() -> None:
    labels = torch.arange(N) % 5
    labels[:8] = -100
    found = Runs(net(), scale=lambda loss, _: loss, labels=labels).check(weights={"triples": [3] * PARTS})
    assert [finding.code for finding in found.findings] == ["missing-division", "empty-micro-batches"]
    assert "3 times the full one, once for each backward pass that brings something" in found.findings[0].what
    assert "once divided by all of them the accumulated gradient is 3/4 of the full one" in found.findings[1].what


def test_not_finite() -> None:
    labels = torch.arange(N) % 5
    labels[:8] = -100

    def by_hand(out: Tensor, y: Tensor) -> Tensor:
        return (out.square().sum(1) * (y != -100)).sum() / (y != -100).sum()

    found = Runs(net(), by_hand, labels=labels).check()
    assert found.cause == "non-finite"
    assert "in the accumulated run only" in found.findings[0].what
    json.dumps(found.to_dict(), allow_nan=False)


def test_everything_is_put_back() -> None:
    model = net(nn.BatchNorm1d(12), nn.Dropout(0.1))
    runs = Runs(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runs.full()
    model[1].eval()

    def stepping(run: Callable[[], None]) -> None:
        model.train()
        run()
        optimizer.step()

    state = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [parameter.grad for parameter in model.parameters()]
    values = [None if grad is None else grad.clone() for grad in grads]
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    modes = [module.training for module in model.modules()]
    check_gradients(partial(stepping, runs.full), partial(stepping, runs.accumulated), model)

    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is grad for parameter, grad in zip(model.parameters(), grads))
    assert all(torch.equal(grad, value) for grad, value in zip(grads, values) if grad is not None and value is not None)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == drawn[1:]


def test_attributes_hooks_and_settings_are_put_back() -> None:
    model = Skipping(layerdrop=0.0)
    model.head.bias.requires_grad_(False)
    model.layer.register_forward_hook(lambda *_: None)
    runs = Runs(model)
    before, out = held_by(model), model(runs.x)

    def meddling(run: Callable[[], None]) -> None:
        inner, model.forward = model.forward, lambda x: 2 * inner(x)  # type: ignore[method-assign]
        model.prepared, model.extra = True, nn.Linear(1, 1)  # type: ignore[assignment]
        model.layer._forward_hooks.clear()
        model.head.register_forward_hook(lambda *_: None)
        model.config.use_cache = False
        model.config.text_config.more = 1
        model.float()
        runs.x = runs.x.float()
        run()

    found = check_gradients(partial(meddling, runs.full), partial(meddling, runs.accumulated), model, tolerance=1e-4)
    assert found.ok
    assert changed(before, held_by(model)) == set()
    assert vars(model.config.text_config) == {"layerdrop": 0.0}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert torch.equal(model(runs.x.double()).round(decimals=5), out.round(decimals=5))


def test_an_optimizer_that_steps_does_not_mislead() -> None:
    runs = Runs(net())
    optimizer = torch.optim.SGD(runs.model.parameters(), lr=1.0)

    def stepping(run: Callable[[], None]) -> None:
        run()
        optimizer.step()

    assert check_gradients(partial(stepping, runs.full), partial(stepping, runs.accumulated), runs.model).ok


def test_what_a_run_raises_comes_through_and_leaves_no_trace() -> None:
    runs = Runs(net())
    weight = runs.model[0].weight
    weight.grad = kept = torch.ones_like(weight)
    before = weight.detach().clone()

    def broken() -> None:
        with torch.no_grad():
            weight.zero_()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        check_gradients(runs.full, broken, runs.model)
    assert weight.grad is kept
    assert torch.equal(weight, before)


def test_parameters_by_name_frozen_and_sparse() -> None:
    table = nn.Embedding(10, 3, sparse=True)
    ids = torch.tensor([1, 2, 2, 7])

    def full() -> None:
        table(ids).square().mean().backward()

    def accumulated() -> None:
        for part in ids.split(2):
            table(part).square().mean().backward()

    assert check_gradients(full, accumulated, table.named_parameters()).cause == "missing-division"
    runs = Runs(net())
    runs.model[0].weight.requires_grad_(False)
    assert [row.name for row in runs.check().parameters] == ["0.bias", "2.weight", "2.bias"]


def test_a_parameter_that_few_micro_batches_reach() -> None:
    experts = nn.ModuleList(nn.Linear(6, 5).double() for _ in range(3))
    x, y = torch.randn(12, 6).double(), torch.arange(12) % 5

    def loss(first: int, last: int) -> Tensor:
        rows = [experts[index // 4](x[index]) for index in range(first, last)]
        return cross_entropy(torch.stack(rows), y[first:last])

    def full() -> None:
        loss(0, 12).backward()

    def accumulated() -> None:
        for first in range(0, 12, 2):
            (loss(first, first + 2) / 6).backward()

    found = check_gradients(full, accumulated, experts)
    assert found.ok and found.windows[0].passes == 6


def test_the_tolerance_is_the_callers() -> None:
    runs = Runs(net(), scale=lambda loss, parts: 1.001 * loss / parts)
    assert not runs.check().ok
    assert runs.check(tolerance=1e-2).ok


def test_a_wide_tolerance_does_not_take_any_weights() -> None:
    labels = torch.arange(N) % 5
    labels[:2] = labels[8:10] = labels[16] = -100
    found = Runs(net(), labels=labels).check(tolerance=2e-2, weights={**COUNTS, "tokens": [6, 6, 7, 8]})
    assert 0.02 < found.windows[0].difference < 0.2
    assert found.weights is not None and found.weights.fits == ("tokens",)


def test_assert_same_gradients() -> None:
    right, wrong = Runs(net()), Runs(net(), scale=lambda loss, _: loss)
    assert_same_gradients(right.full, right.accumulated, right.model)
    batchproof.testing.assert_same_gradients(right.full, right.accumulated, right.model, tolerance=1e-6)
    with pytest.raises(AssertionError) as caught:
        assert_same_gradients(wrong.full, wrong.accumulated, wrong.model)
    assert str(caught.value).startswith("\n✗ the gradient is 4 times that of the whole batch")


def test_to_dict_is_json() -> None:
    labels, counted = ragged_labels()
    found = Runs(net(), labels=labels).check(weights={"tokens": counted})
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["cause"] == "mean-of-means"
    assert data["weights"]["fits"] == ["tokens"]
    assert data["parameters"][0]["name"] == found.parameters[0].name
    assert data["remedy"] == found.remedy


@pytest.mark.parametrize("result", [GradientCheck, MicroBatchWeights, ParameterGradient, WindowGradient])
def test_every_field_is_explained(result: type) -> None:
    explained = re.findall(r"^ +(\w+): ", (result.__doc__ or "").partition("Attributes:")[2], re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(result)]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    labels, counted = ragged_labels()
    model = nn.Sequential()
    for index in range(20):
        model.add_module(f"a_layer_with_a_name_that_is_long_{index}", nn.Linear(6, 6).double())
    text = render(Runs(model, labels=labels).check(weights={"tokens": counted}), width)
    assert max(map(len, text.splitlines())) <= width
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert re.findall(r"^  ([A-Z]\w+)  ", text, re.MULTILINE) == ["Why"]
    assert "32 more parameters, all of them off" in text
    assert re.search(r"micro-batch 2 +2 +0\.\d{3} x", text)


def test_html() -> None:
    right = Runs(net()).check()._repr_html_()
    assert "that of the whole batch" in right and ">parameter</th>" in right
    wrong = Runs(net(), scale=lambda loss, _: loss).check()._repr_html_()
    assert "ever divided by the number of micro-batches" in wrong
