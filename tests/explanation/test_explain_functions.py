"""Functions of a batch, each with the cause that it is known for: the verdict, the blamed line and the direction."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
import torchmetrics.functional as tm
from torch import Tensor, nn

from batchproof import BatchproofError, Explanation, exact, explain
from batchproof.explanation import counts
from batchproof.explanation.functions import direction
from batchproof.explanation.measure import CALLS
from batchproof.explanation.result import Curve, Reading
from batchproof.explanation.verdict import how_far

Function = Callable[..., Any]


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    residuals = pred - real
    square = torch.square(residuals)
    sum_of_square = torch.sum(square)
    mean = sum_of_square / pred.shape[0]
    root = torch.sqrt(mean)
    return root


def mse(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).mean()


def squared_errors(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).sum()


def divided_twice(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).mean() / pred.shape[0]


def one_too_few(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).sum() / (len(pred) - 1)


def log_of_mean(pred: Tensor, real: Tensor) -> Tensor:
    error = ((pred - real) ** 2).mean()
    return torch.log(error)


def exp_of_mean(pred: Tensor, real: Tensor) -> Tensor:
    error = ((pred - real) ** 2).mean()
    return torch.exp(error)


def masked(pred: Tensor, real: Tensor, mask: Tensor) -> Tensor:
    total = ((pred - real) ** 2 * mask).sum()
    return total / mask.sum().clamp(min=1)


def selected(pred: Tensor, real: Tensor, mask: Tensor) -> Tensor:
    return ((pred - real) ** 2)[mask].mean()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    residual = ((real - pred) ** 2).sum()
    total = ((real - real.mean()) ** 2).sum()
    return 1 - residual / total


def contrastive(a: Tensor, b: Tensor) -> Tensor:
    logits = a @ b.T
    return F.cross_entropy(logits, torch.arange(len(a)))


def median_error(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().median()


def largest_error(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().max()


def automatic_sigmoid(pred: Tensor, real: Tensor) -> Tensor:
    if pred.max() > 1.2:
        pred = torch.sigmoid(pred)
    return ((pred - real) ** 2).mean()


WEIGHTS = torch.linspace(1, 2, 5)


def mean_with_penalty(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).mean() + 0.1 * WEIGHTS.square().sum()


def sum_with_penalty(pred: Tensor, real: Tensor) -> Tensor:
    error = ((pred - real) ** 2).sum()
    return error + 0.1 * WEIGHTS.square().sum()


def macro_f1(logits: Tensor, labels: Tensor) -> Tensor:
    guess = logits.argmax(1)
    scores = []
    for c in range(5):
        hits = ((guess == c) & (labels == c)).sum()
        both = (guess == c).sum() + (labels == c).sum()
        scores.append(2 * hits / both.clamp(min=1))
    return torch.stack(scores).mean()


def inverse_frequencies(logits: Tensor, labels: Tensor) -> Tensor:
    weights = 1 / torch.bincount(labels, minlength=5).clamp(min=1)
    return (F.cross_entropy(logits, labels, reduction="none") * weights[labels]).mean()


def f1_of_counts(logits: Tensor, labels: Tensor) -> float:
    guess, real = logits[:, 0] > 0, labels > 1
    tp = (guess & real).sum().item()
    fp, fn = (guess & ~real).sum().item(), (~guess & real).sum().item()
    precision = tp / (tp + fp) if tp + fp > 0 else 0.0
    recall = tp / (tp + fn) if tp + fn > 0 else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def variance_in_numpy(pred: Tensor, real: Tensor) -> float:
    residuals = (pred - real).numpy()
    spread = np.var(residuals)
    return float(spread)


def largest_in_numpy(pred: Tensor, real: Tensor) -> float:
    return np.abs(pred.numpy() - real.numpy()).max()


def median_in_numpy(pred: Tensor, real: Tensor) -> float:
    return float(np.median(np.abs((pred - real).numpy())))


def larger_of_two(pred: Tensor, real: Tensor) -> float:
    return max((pred - real).mean().item(), 0.0)


def clipped(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).mean().clamp(max=100.0)


def line_of(fn: Function, code: str) -> int:
    lines, first = inspect.getsourcelines(fn)
    return first + next(index for index, line in enumerate(lines) if code in line)


def pair(n: int = 120) -> tuple[Tensor, Tensor]:
    real = torch.randn(n)
    return real + torch.randn(n), real


def three(n: int = 120) -> tuple[Tensor, Tensor, Tensor]:
    return *pair(n), torch.rand(n) < 0.6


def classes(n: int = 120) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 5), torch.randint(0, 5, (n,))


def vectors(n: int = 60) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 4), torch.randn(n, 4)


CASES = [
    (rmse, pair, "nonlinear", "torch.sqrt(mean)", "low"),
    (log_of_mean, pair, "nonlinear", "torch.log", "low"),
    (exp_of_mean, pair, "nonlinear", "torch.exp", "high"),
    (squared_errors, pair, "sum", "sum()", None),
    (divided_twice, pair, "divisor", "shape[0]", "high"),
    (one_too_few, pair, "divisor", "- 1)", "high"),
    (masked, three, "ratio", "total / mask", None),
    (selected, three, "ratio", "mean()", None),
    (r2, pair, "centred", "real.mean()", "low"),
    (contrastive, vectors, "couples", "a @ b.T", "low"),
    (median_error, pair, "order", "abs().median", None),
    (largest_error, pair, "extreme", "max()", "low"),
    (automatic_sigmoid, pair, "branch", "if pred.max()", None),
    (sum_with_penalty, pair, "constant-term", "return error +", None),
    (macro_f1, classes, "ratio", "2 * hits /", "low"),
    (inverse_frequencies, classes, "ratio", "1 / torch.bincount", None),
    (f1_of_counts, classes, "ratio", "precision = tp", None),
    (variance_in_numpy, pair, "centred", "np.var", "low"),
    (largest_in_numpy, pair, "extreme", ".max()", "low"),
    (median_in_numpy, pair, "order", "np.median", None),
    (larger_of_two, pair, "limit", "max(", "high"),
]


@pytest.mark.parametrize(("fn", "inputs", "verdict", "code", "way"), CASES, ids=[case[0].__name__ for case in CASES])
def test_each_cause_is_found_at_its_line(fn: Function, inputs: Function, verdict: str, code: str, way: str) -> None:
    found = explain(fn, *inputs())
    assert (found.is_safe, found.verdict, found.exit_status) == (False, verdict, 1)
    first = next(finding for finding in found.findings if finding.code == verdict)
    assert first.place is not None
    assert first.place.line == line_of(fn, code)
    assert code in first.place.text
    assert first.place.file.endswith("test_explain_functions.py")
    if way is not None:
        assert first.direction == way
    assert found.findings[0] == first, "the headline's cause comes first"


@pytest.mark.parametrize(
    ("means", "way"),
    [
        ((0.4, 0.9, 1.01), "low"),  # an F1 of single samples, and four quarters that fell a little high
        ((0.4, 0.9, 1.2), "varies"),
        ((1.5, 1.2, 0.99), "high"),
        ((1.0, 1.0, 1.0), None),
    ],
)
def test_a_little_on_the_other_side_does_not_change_the_direction(means: tuple[float, ...], way: str | None) -> None:
    readings = [Reading(size, 64 // size, 64 // size, 0, mean, mean, mean) for size, mean in zip((1, 4, 16), means)]
    about = Curve(1.0, tuple(readings), 64, 64)
    assert direction(about) == way
    assert "1.0%" not in how_far(about) or way == "varies"


def test_pairs_have_one_cause() -> None:
    assert [finding.code for finding in explain(contrastive, *vectors()).findings] == ["couples"]


@pytest.mark.parametrize("fn", [mse, mean_with_penalty, F.mse_loss, F.l1_loss, F.huber_loss, nn.SmoothL1Loss()])
def test_means_are_safe(fn: Function) -> None:
    found = explain(fn, *pair())
    assert (found.is_safe, found.verdict, found.exit_status) == (True, "mean", 0)
    assert "(" not in found.headline, "a mean that the program proves comes without a reservation"


def test_a_column_against_a_flat_vector_is_named() -> None:
    pred, real = pair()
    found = explain(mse, pred[:, None], real)
    assert [finding.code for finding in found.findings] == ["broadcast"]
    assert "pred (B, 1) against real (B,)" in found.findings[0].what
    assert found.findings[0].place is not None
    assert found.findings[0].place.line == line_of(mse, "return")
    assert "squeeze" in found.findings[0].remedy
    assert found.use == ()


def test_pairs_that_were_meant_are_not_taken_for_an_accident() -> None:
    def spread(x: Tensor) -> Tensor:
        return (x[:, None] - x).abs().mean()

    def distances(x: Tensor) -> Tensor:
        square = (x * x).sum(1, keepdim=True)
        return (square + (x * x).sum(1) - 2 * x @ x.T).mean()

    assert explain(spread, torch.randn(60)).verdict == "couples"
    assert explain(distances, torch.randn(60, 4)).verdict == "couples"


def test_a_layer_with_one_output_is_an_accident_too() -> None:
    layer = torch.randn(6, 1)

    def loss(x: Tensor, real: Tensor) -> Tensor:
        return ((x @ layer - real) ** 2).mean()

    assert explain(loss, torch.randn(60, 6), torch.randn(60)).verdict == "broadcast"


def test_cross_entropy_is_safe_until_a_label_is_ignored() -> None:
    logits, labels = classes()
    plain = explain(F.cross_entropy, logits, labels)
    assert (plain.is_safe, plain.verdict) == (True, "mean")
    assert any(finding.code == "ratio" and finding.harmless for finding in plain.findings)
    assert "samples like these" in plain.headline
    ignoring = explain(functools.partial(F.cross_entropy, ignore_index=0), logits, labels)
    assert (ignoring.is_safe, ignoring.verdict) == (False, "ratio")


def test_perplexity_is_blamed_on_the_exponential_and_not_on_a_denominator_that_counts_every_sample() -> None:
    def perplexity(logits: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, labels)
        return torch.exp(loss)

    found = explain(perplexity, *classes())
    assert found.verdict == "nonlinear"
    assert found.findings[0].place is None or found.findings[0].code == "ratio" or "exp" in found.findings[0].place.text
    assert next(f for f in found.findings if not f.harmless).direction == "high"


def test_batches_that_take_another_path_say_nothing_about_a_denominator() -> None:
    def perplexity(pred: Tensor, real: Tensor, mask: Tensor) -> Tensor:
        if len(pred) < 2:
            return torch.exp((pred - real).abs().mean())
        total = ((pred - real).abs() * mask).sum()
        return torch.exp(total / mask.sum())

    found = explain(perplexity, *pair(), torch.ones(120, dtype=torch.bool))
    assert found.verdict == "nonlinear"


def test_a_mask_of_ones_leaves_a_note_and_no_alarm() -> None:
    pred, real = pair()
    found = explain(selected, pred, real, torch.ones(len(pred), dtype=torch.bool))
    assert found.is_safe is True
    assert any(finding.code == "ratio" and finding.harmless for finding in found.findings)


def test_a_limit_that_no_batch_reaches_leaves_a_note() -> None:
    found = explain(clipped, *pair())
    assert found.is_safe is True
    assert [finding.code for finding in found.findings if finding.harmless] == ["mean", "limit"]


def test_samples_that_are_all_alike_do_not_hide_a_root() -> None:
    found = explain(rmse, torch.zeros(50), torch.ones(50))
    assert (found.is_safe, found.verdict) == (False, "nonlinear")
    assert "these samples do not show it" in found.headline
    assert explain(mse, torch.zeros(50), torch.ones(50)).is_safe is True


def test_a_root_that_is_squared_again_is_no_false_alarm() -> None:
    def mean_square(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x) ** 2 / len(x)

    def total_square(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x) ** 2

    found = explain(mean_square, torch.randn(64))
    assert (found.is_safe, found.verdict) == (True, "mean")
    assert "safe on samples like these" in found.headline, "measured, and not proved"
    assert explain(total_square, torch.randn(64)).verdict == "sum"


def test_a_label_to_ignore_that_comes_late_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = classes(600)
    last_in_the_shuffle = torch.randperm(600, generator=torch.Generator().manual_seed(0))[500:]
    labels[last_in_the_shuffle[::3]] = -100
    found = explain(F.cross_entropy, logits, labels)
    assert (found.is_safe, found.verdict) == (False, "ratio")
    monkeypatch.setattr(counts, "MOST_BYTES", 1)
    found = explain(F.cross_entropy, logits, labels)
    assert (found.is_safe, found.verdict) == (False, "ratio")


def test_a_loss_with_parameters_is_measured_in_their_precision() -> None:
    layer = nn.Linear(4, 1)

    def loss(x: Tensor, real: Tensor) -> Tensor:
        return (layer(x).squeeze(1) - real).square().mean()

    found = explain(loss, torch.randn(64, 4), torch.randn(64))
    assert found.is_safe is True
    assert found.curve is not None
    assert found.curve.tolerance == 1e-4


def test_undefined_on_small_batches() -> None:
    def deviation(x: Tensor) -> Tensor:
        return x.std()

    found = explain(deviation, torch.randn(64))
    assert "undefined" in [finding.code for finding in found.findings]
    assert found.curve is not None
    assert [reading.size for reading in found.curve.readings if reading.undefined] == [1]


def test_a_function_that_refuses_small_batches() -> None:
    def strict(pred: Tensor, real: Tensor) -> Tensor:
        if len(pred) < 4:
            raise ValueError("too few")
        return mse(pred, real)

    found = explain(strict, *pair())
    assert (found.is_safe, found.verdict) == (False, "undefined")
    assert "ValueError: too few" in found.headline
    assert "from batches of 4 on" in found.headline


def test_random_functions_cannot_be_told() -> None:
    def noisy(x: Tensor) -> Tensor:
        return F.dropout(x, 0.5).mean()

    data = torch.randn(64)
    before = torch.get_rng_state()
    found = explain(noisy, data)
    assert (found.is_safe, found.verdict, found.exit_status) == (None, "random", 2)
    assert found.findings[0].place is not None
    assert "F.dropout" in found.findings[0].place.text
    assert torch.equal(before, torch.get_rng_state())


def test_the_order_is_kept_where_it_matters() -> None:
    def jumps(x: Tensor) -> Tensor:
        return (x[1:] - x[:-1]).abs().sum() / max(len(x), 1)

    data = torch.randn(64).cumsum(0).double()
    found = explain(jumps, data)
    assert found.curve is not None
    assert not found.curve.shuffled
    in_order = [float(jumps(data[start : start + 4])) for start in range(0, 64, 4)]
    assert found.curve.readings[2].mean == pytest.approx(sum(in_order) / 16)
    assert found.is_safe is False
    assert "in their order" in str(found)


def test_one_sample_cannot_be_told() -> None:
    assert explain(mse, torch.ones(1), torch.zeros(1)).is_safe is None


def test_a_value_that_is_nan_cannot_be_told() -> None:
    found = explain(mse, torch.full((8,), torch.nan), torch.zeros(8))
    assert found.is_safe is None
    assert "NaN" in found.headline


def test_a_count_beside_a_ratio_is_no_headline() -> None:
    def scores(p: Tensor, y: Tensor) -> dict[str, Any]:
        return {"n": len(y), "recall": ((p > 0.5) & (y == 1)).sum() / (y == 1).sum()}

    found = explain(scores, torch.rand(300), torch.randint(0, 2, (300,)))
    assert (found.verdict, found.curve and found.curve.component) == ("ratio", "['recall']")
    alone = explain(lambda p, y: scores(p, y)["n"], torch.rand(300), torch.randint(0, 2, (300,)))
    assert alone.verdict == "sum"


def test_each_value_has_its_own_cause() -> None:
    def values(pred: Tensor, real: Tensor) -> dict[str, Tensor]:
        error = pred - real
        return {"log": error.square().mean().log(), "mae": error.abs().mean(), "total": error.square().sum()}

    found = explain(values, *pair())
    assert [finding.code for finding in found.findings if not finding.harmless] == ["nonlinear"]
    assert found.curve is not None
    assert found.curve.component == "['log']"


def test_an_infinite_value_cannot_be_told() -> None:
    found = explain(lambda x: x.mean().exp(), torch.full((64,), 1e4))
    assert (found.is_safe, "infinite" in found.headline) == (None, True)


def test_a_function_that_gives_one_number_only_cannot_be_told() -> None:
    found = explain(lambda x: torch.zeros(()) if len(x) > 0 else x.mean(), torch.rand(64))
    assert (found.is_safe, "the same number" in found.headline) == (None, True)


def test_a_state_is_not_chance() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("centre", torch.zeros(3))

        def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
            loss = -((teacher - self.centre).softmax(-1) * student.log_softmax(-1)).sum(-1).mean()
            self.centre = 0.9 * self.centre + 0.1 * teacher.mean(0)
            return loss

    found = explain(Centred(), torch.randn(100, 3), torch.randn(100, 3) + 1)
    assert (found.is_safe, found.verdict) == (None, "state")
    own = torch.Generator().manual_seed(0)
    drawn = explain(lambda x: (x + torch.randn(x.shape, generator=own)).square().mean(), torch.randn(100))
    assert drawn.verdict == "random"


def logarithm_of_the_size(loss: Tensor) -> Tensor:
    return math.log(len(loss)) - loss.mean()


def root_of_the_size(error: Tensor) -> Tensor:
    return error.sum() / len(error) ** 0.5


def times_the_size_less_one(error: Tensor) -> Tensor:
    return error.mean() * (len(error) - 1)


def mean_and_sum(error: Tensor) -> Tensor:
    return error.mean() + 0.1 * error.square().sum()


@pytest.mark.parametrize(
    ("fn", "verdict"),
    [
        (logarithm_of_the_size, "size"),
        (root_of_the_size, "divisor"),
        (times_the_size_less_one, "size"),
        (mean_and_sum, "mean-and-sum"),
    ],
)
def test_the_batch_size_itself_is_named(fn: Function, verdict: str) -> None:
    found = explain(fn, torch.rand(300))
    assert found.verdict == verdict
    assert found.findings[0].place is not None
    assert found.findings[0].place.line == line_of(fn, "return")


def test_a_ratio_of_sizes_is_named() -> None:
    def share(x: Tensor, mask: Tensor) -> Tensor:
        return x.mean() * (len(x[mask]) / len(x))

    found = explain(share, torch.rand(300), torch.rand(300) > 0.3)
    assert (found.verdict, found.findings[0].title) == ("ratio", "a ratio of sizes")


def test_samples_that_were_divided_by_a_statistic_do_not_meet_once_more() -> None:
    def scaled(x: Tensor) -> Tensor:
        return (x / x.abs().mean()).exp().mean()

    found = explain(scaled, torch.rand(300))
    assert found.verdict == "ratio"
    assert "couples" not in [finding.code for finding in found.findings]


def kept_dimension(error: Tensor, weight: Tensor) -> Tensor:
    return (error.square().mean(-1, keepdim=True) * weight).mean()


def made_dimension(error: Tensor, weight: Tensor) -> Tensor:
    return (error.square().mean(-1) * weight[:, None]).sum() / weight.sum()


@pytest.mark.parametrize("fn", [kept_dimension, made_dimension])
def test_a_column_that_is_made_inside_is_named(fn: Function) -> None:
    found = explain(fn, torch.randn(100, 3), torch.rand(100))
    assert found.verdict == "broadcast"


def test_pairs_of_two_sets_are_meant() -> None:
    def energy(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, None] - b).abs().mean()

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).exp().mean()

    assert explain(energy, *pair(60)).verdict == "couples"
    assert explain(distances, torch.randn(60, 4), torch.randn(60, 4)).verdict == "couples"


def test_the_worst_of_several_values_is_shown() -> None:
    def both(pred: Tensor, real: Tensor) -> dict[str, Tensor]:
        return {"mse": mse(pred, real), "rmse": rmse(pred, real)}

    found = explain(both, *pair())
    assert found.curve is not None
    assert (found.curve.component, found.curve.components) == ("['rmse']", 2)
    assert found.is_safe is False
    assert "its ['rmse'] is" in found.headline


def test_an_array_function_is_measured() -> None:
    labels, guesses = np.arange(90) % 3, (np.arange(90) * 5 // 2) % 3
    found = explain(sklearn.metrics.f1_score, labels, guesses, average="macro")
    assert (found.is_safe, found.verdict) == (False, "unexplained")
    assert any("not tensors" in note for note in found.notes)
    errors = explain(sklearn.metrics.mean_squared_error, np.arange(90.0), np.zeros(90))
    assert errors.is_safe is True
    assert "safe on samples like these" in errors.headline


def test_lists_are_samples() -> None:
    def share(pred: list[int], real: list[int]) -> float:
        return sum(p == r for p, r in zip(pred, real, strict=True)) / len(pred)

    assert explain(share, [1, 2, 3, 1] * 10, [1, 2, 2, 2] * 10).is_safe is True


def test_a_shared_argument() -> None:
    logits, labels = classes()
    weights = torch.linspace(0.5, 2, 5)
    found = explain(F.cross_entropy, logits, labels, weights, batch_dim=(0, 0, None))
    assert (found.is_safe, found.verdict) == (False, "ratio")
    named = explain(F.cross_entropy, logits, labels, weight=weights)
    assert named.verdict == "ratio"
    with pytest.raises(BatchproofError, match="weight"):
        explain(F.cross_entropy, logits, labels, weights)


def test_a_batch_dimension_that_is_not_the_first() -> None:
    pred, real = torch.randn(3, 80), torch.randn(3, 80)
    assert explain(rmse, pred, real, batch_dim=1).inputs[0].what == "float32 (3, 80)"
    assert explain(mse, pred, real, batch_dim=1).is_safe is True


def test_a_module_loss_with_a_buffer_is_left_as_it_was() -> None:
    class Centre(nn.Module):
        seen: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, pred: Tensor, real: Tensor) -> Tensor:
            self.seen += 1
            return mse(pred, real)

    loss = Centre()
    assert explain(loss, *pair()).is_safe is True
    assert loss.seen == 0


def test_what_exact_makes_is_safe() -> None:
    found = explain(exact(rmse), *pair())
    assert (found.kind, found.is_safe) == ("metric", True)
    assert any("merges of uneven copies" in note for note in found.notes)


def test_a_function_that_asks_for_gradients() -> None:
    def penalty(pred: Tensor, real: Tensor) -> Tensor:
        pred = pred.detach().requires_grad_()
        (slope,) = torch.autograd.grad(((pred - real) ** 2).sum(), pred)
        return slope.square().mean()

    assert explain(penalty, *pair()).is_safe is True


def test_library_functions_have_no_line_of_the_callers() -> None:
    found = explain(F.mse_loss, *pair())
    assert all(finding.place is None for finding in found.findings)
    in_library = explain(tm.mean_squared_error, *pair(), squared=False)
    place = next(finding.place for finding in in_library.findings if not finding.harmless)
    assert place is not None
    assert place.file.startswith("torchmetrics")


def test_the_state_to_keep_and_the_code_to_use() -> None:
    found = explain(rmse, *pair())
    assert found.keep is not None
    assert (found.keep.what, found.keep.nbytes, found.keep.row_nbytes) == ("sum of square and the count", 16, 0)
    assert found.use[0] == "metric = batchproof.exact(rmse)"
    ranked = explain(median_error, *pair())
    assert ranked.keep is not None
    assert ranked.keep.row_nbytes > 0
    assert "median" in ranked.keep.reason


def test_the_users_error_comes_through() -> None:
    def broken(pred: Tensor, real: Tensor) -> Tensor:
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        explain(broken, *pair())


@pytest.mark.parametrize("target", [3, "rmse", None])
def test_what_cannot_be_called_is_refused(target: object) -> None:
    with pytest.raises(BatchproofError, match="neither a function"):
        explain(target, torch.ones(3))


def test_a_result_without_numbers_is_refused() -> None:
    with pytest.raises(BatchproofError, match="no number"):
        explain(lambda x: "done", torch.ones(8))


@pytest.mark.parametrize("sizes", [[0], [-1], [1.5], [True]])
def test_batch_sizes_are_whole_numbers(sizes: list[Any]) -> None:
    with pytest.raises(BatchproofError, match="batch size"):
        explain(mse, *pair(), batch_sizes=sizes)


def test_progress_is_told() -> None:
    seen: list[str] = []
    explain(mse, *pair(32), batch_sizes=[1, 8], progress=lambda text, done, total: seen.append(text))
    assert seen == ["batches of 1", "batches of 8", "deriving the exact form"]


def test_it_is_called_so_often_and_heard_no_time(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def loud(pred: Tensor, real: Tensor) -> Tensor:
        seen.append(len(pred))
        print("here I am")
        logging.getLogger("loud").warning("here I am")
        return mse(pred, real).sqrt()

    told: list[str] = []
    for n in (300, 5000):
        seen.clear()
        found = explain(loud, torch.randn(n), torch.randn(n), progress=lambda text, done, total: told.append(text))
        calls = found.calls
        assert f"called {calls:,} times; what it printed is left out" in found.notes
        assert calls <= 1.3 * CALLS
    assert (capsys.readouterr().out, caplog.text) == ("", "")
    assert told
    assert not logging.root.manager.disable


def test_the_same_seed_gives_the_same_explanation() -> None:
    data = pair()
    found: list[Explanation] = [explain(rmse, *data, seed=5) for _ in range(2)]
    assert found[0] == found[1]
    assert explain(rmse, *data, seed=6).curve != found[0].curve
