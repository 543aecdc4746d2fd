"""explain names planted faults at their module and line with the right cause, and says nothing of their twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.explanation.planted_rows import (
    PLANTS,
    LeftInTraining,
    MeanPooling,
    TorchEncoder,
    padded_frames,
    rows,
    tokens,
)
from torch import Tensor, nn

from batchproof import Explanation, explain
from batchproof.explanation.result import RowTrial


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_named(name: str) -> None:
    plant = PLANTS[name]
    found = explain(plant.model(False).eval(), plant.batch())
    assert (found.is_safe, found.verdict) == (False, plant.verdict)
    first = found.findings[0]
    assert plant.cause in first.what
    assert first.title.startswith(f"{plant.module} (")
    assert first.place is not None
    assert first.place.text.endswith("# the fault")


@pytest.mark.parametrize("name", PLANTS)
def test_its_correct_twin_is_silent(name: str) -> None:
    plant = PLANTS[name]
    found = explain(plant.model(True).eval(), plant.batch())
    assert (found.is_safe, found.verdict) == (True, "independent")
    assert {trial.state for trial in found.trials} <= {"same", "rounding", "untried", "convention"}
    assert all(trial.name == "training" for trial in found.trials if trial.state == "convention")
    assert trial_of(found, "alone").state in ("same", "rounding")


def trial_of(found: Explanation, name: str) -> RowTrial:
    return next(trial for trial in found.trials if trial.name == name)


def test_looking_leaves_no_trace() -> None:
    for name in ("moving average", "attribute", "list"):
        model = PLANTS[name].model(False).eval()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        attributes = {key: value for key, value in vars(model).items() if not key.startswith("_")}
        explain(model, PLANTS[name].batch())
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert {key: value for key, value in vars(model).items() if not key.startswith("_")} == attributes
        assert getattr(model, "seen", []) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["mean pooling", "unmasked attention", "quantised"])
def test_in_another_dtype(dtype: torch.dtype, name: str) -> None:
    plant = PLANTS[name]
    batch = {key: value.to(dtype) if value.is_floating_point() else value for key, value in plant.batch().items()}
    wrong, right = (explain(plant.model(is_right).eval().to(dtype), batch) for is_right in (False, True))
    assert (wrong.is_safe, wrong.verdict, right.is_safe) == (False, plant.verdict, True)
    assert plant.cause in wrong.findings[0].what


def samples_of(count: int) -> dict[str, Tensor]:
    return {key: value[:count] for key, value in tokens().items()}


@pytest.mark.parametrize(
    "batch",
    [
        lambda: tokens((9, 9, 9, 9, 9)),
        lambda: {key: value[:1].expand(6, -1) for key, value in tokens((9, 9)).items()},
        lambda: samples_of(3),
        lambda: tokens((1, 1, 1, 7)),
        lambda: tokens(left=True),
    ],
    ids=["of one length", "equal rows", "three", "of length one", "padded on the left"],
)
def test_with_other_batches(batch: Callable[[], dict[str, Tensor]]) -> None:
    wrong, right = (explain(MeanPooling(is_right).eval(), batch()) for is_right in (False, True))
    assert (wrong.is_safe, wrong.verdict, right.is_safe) == (False, "padding", True)
    assert "a mean over all positions" in wrong.findings[0].what


def test_train_left_on_is_a_convention() -> None:
    trial = trial_of(explain(TorchEncoder(True).eval(), padded_frames()), "training")
    assert (trial.state, trial.kind, trial.note) == (
        "convention",
        "Dropout",
        "call eval(): Dropout draws random numbers",
    )
    trial = trial_of(explain(LeftInTraining(True).eval(), rows()), "training")
    assert (trial.state, trial.module, trial.note) == ("convention", "norm", "call eval(): BatchNorm1d couples samples")
    both = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.5))
    trial = trial_of(explain(both.eval(), rows()["x"]), "training")
    assert trial.note == "call eval(): BatchNorm1d couples samples, Dropout draws random numbers"
    assert trial_of(explain(MeanPooling(True).eval(), tokens()), "training").state == "same"


def test_in_bfloat16_the_gap_is_larger_and_no_fault() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 200), nn.Tanh(), nn.Linear(200, 5)).eval()
    before = [parameter.clone() for parameter in model.parameters()]
    found = explain(model, rows(40)["x"])
    trial = trial_of(found, "bfloat16")
    assert found.is_safe
    assert trial.state in ("same", "rounding")
    assert trial.gap is not None
    assert trial.gap < 0.1
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert (
        trial_of(explain(model.bfloat16(), rows(40)["x"].bfloat16()), "bfloat16").note == "its parameters are bfloat16"
    )
