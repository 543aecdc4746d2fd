"""What each net of `derive` holds by itself, where another net behind it would hide that it is torn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.derive import trial
from batchproof.derive.centred_sum import CentredSum, Level, Taylor, weigh_sums
from batchproof.derive.cut import additive_stats, cut, sinks
from batchproof.derive.find_centres import _taylor
from batchproof.derive.operators import base_name
from batchproof.derive.pipeline import derive, program_of
from batchproof.derive.summand import Centre, Direction
from batchproof.derive.weights import predicts_by_coefficients

X = torch.randn(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TABLE = torch.randn(24, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def kinds(fn: Callable[..., Any], *columns: Tensor) -> dict[str, str]:
    """For each operation of a function the kind of its (last) result."""
    program = program_of(fn, list(columns), [0] * len(columns))
    return {base_name(op): program.values[op.outputs[0]].kind.value for op in program.ops if op.outputs}


# ------------------------------------------------------------------ kinds


def test_the_largest_distance_from_a_statistic_is_kept_as_extremes() -> None:
    assert kinds(lambda x: (x - x.mean()).abs().amax(), X)["amax"] == "max"


def test_of_other_functions_of_a_sample_extremes_are_not_enough() -> None:
    assert kinds(lambda x: (torch.sin(x - x.mean()) - x.mean()).amax(), X)["amax"] != "max"


def test_neighbours_of_a_sorted_batch_are_no_samples() -> None:
    """Every other number of a sorted batch depends on all of them; of the samples as they come, it does not."""
    assert kinds(lambda x: x.view(-1, 2)[:, 0].sum(), TABLE)["sum"] == "sum"
    assert kinds(lambda x: x.flatten().sort().values.view(-1, 2)[:, 0].sum(), TABLE)["sum"] != "sum"


# ------------------------------------------------------------------ trials of operators without a rule


@pytest.fixture
def mix() -> Iterator[Any]:
    """Each number by itself, but for large ones: then their mean is taken off."""
    with torch.library._scoped_library("tested", "FRAGMENT") as library:
        library.define("mixes_large(Tensor x) -> Tensor")

        def mixes_large(x: Tensor) -> Tensor:
            return torch.where(x.abs().amax() > 1e6, x - x.mean(), x + 1)

        library.impl("mixes_large", mixes_large, "CompositeExplicitAutograd")
        yield torch.ops.tested.mixes_large


def test_trials_must_agree(mix: Any) -> None:
    assert kinds(lambda x: mix(x).sum(), X)["mixes_large"] != "rows"


def test_one_trial_is_not_enough(mix: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only one attempt lies in the operator's domain."""
    attempts = []
    run = trial._run

    def only_once(*args: Any) -> Any:
        attempts.append(args)
        if len(attempts) > 1:
            raise ValueError("outside of the domain")
        return run(*args)

    monkeypatch.setattr(trial, "_run", only_once)
    assert kinds(lambda x: mix(x).sum(), X)["mixes_large"] != "rows"
    assert len(attempts) > 1


# ------------------------------------------------------------------ what may be kept


def test_samples_around_a_statistic_are_not_kept() -> None:
    """Each is one number where a sample is eight, but the mean is known only at the end."""
    program = program_of(lambda x: (x - x.mean(0)).norm(dim=1).median(), [TABLE], [0])
    assert all(not program.values[leaf].given for leaf in cut(program, lambda value: 0).leaves)


def test_a_sum_and_a_number_do_not_add() -> None:
    program = program_of(lambda x: (x.sum() + 1).square() + (x.sum() - x.square().sum()).square(), [X], [0])
    added = [program.ops[program.values[i].op].func.__name__ for i in additive_stats(program)]
    assert added == ["sub.Tensor"]


def test_what_python_reads_must_be_right() -> None:
    def one_way(x: Tensor, y: Tensor) -> Tensor:
        return x.sum() if y.mean() > 0 else -x.sum()

    program = program_of(one_way, [X, X.abs()], [0, 0])
    assert {read.value for read in program.reads} < sinks(program)


def test_what_a_buffer_holds_counts_once() -> None:
    def counts(y: Tensor) -> Tensor:
        return torch.ones(3, dtype=torch.float64).index_add(0, y, torch.ones(len(y), dtype=torch.float64))

    y = torch.arange(24) % 3
    metric = bp.exact(counts)
    for batch in y.split(5):
        metric.update(batch)
    assert metric.plan.is_constant_size
    assert torch.equal(metric.compute(), counts(y))


# ------------------------------------------------------------------ centres


def test_powers_that_fit_some_probes_must_fit_the_others() -> None:
    generator = torch.Generator().manual_seed(2)
    kept = torch.randn(1, 18, 3, generator=generator, dtype=torch.float64)
    weights = torch.randn(1, 3, 4, generator=generator, dtype=torch.float64)
    table = kept @ weights
    assert predicts_by_coefficients(table, kept, 15)
    for probe in (13, 17):  # one near the data, one far from them, neither of those that are fitted
        other = table.clone()
        other[:, probe] += 1e-3 * table.abs().amax()
        assert not predicts_by_coefficients(other, kept, 15)


def test_the_digits_that_cancel_are_seen() -> None:
    kept = torch.tensor([1e6, -1e6 + 1.0], dtype=torch.float64)
    weights = torch.ones(1, 2, dtype=torch.float64)
    found = weigh_sums(weights, kept, torch.zeros(1, dtype=torch.float64), 0.0, Centre({}, {}), False)
    assert float(found.cancels) == pytest.approx(2e6, rel=1e-5)


def test_of_two_levels_the_one_with_less_noise_is_believed() -> None:
    part: Any = SimpleNamespace(stats=(), ops=(), free=(0,), sums=lambda centres, rows, shared: rows)
    near = Level([torch.tensor([[1.0]]), torch.tensor([[-1.0]])], torch.tensor([[[1e6, 1e6]]]))  # 1e6 - 1e6: all noise
    far = Level([torch.tensor([[2.0]]), torch.tensor([[0.0]])], torch.tensor([[[1.0, 0.0]]]))
    kept = torch.tensor([3.0])
    for levels in ([near, far], [far, near]):
        found = CentredSum(part, [Centre({}, {})], levels).combine(Centre({}, {}), kept, {})
        assert float(found.total) == 6.0


def test_a_polynomial_must_give_the_sum_at_every_test_centre() -> None:
    part: Any = SimpleNamespace(stats=(0,), free=(), run=lambda at, rows, shared: torch.ones(1))
    base = {0: torch.tensor(2.0, dtype=torch.float64)}
    along = (Direction(0, False, None),)
    powers = [Centre(base, {}, (0,), along), Centre(base, {}, (1,), along)]
    tests = [Centre({0: base[0] + move}, {}) for move in (0.5, -1.0, 30.0)]
    kept = torch.randn(1, 15, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    line = torch.tensor([[1.0, 1.0, 1.0], [0.5, -1.0, 30.0]], dtype=torch.float64)  # the sum at s + d: a + b d
    probes: Any = [None]
    assert _taylor(part, powers, kept @ line, kept, tests, probes, {}) is not None
    bent = kept @ line
    bent[:, 7, 2] *= 1 + 1e-9
    assert _taylor(part, powers, bent, kept, tests, probes, {}) is None


def test_a_statistic_that_only_scales_the_sum_is_seen_on_a_probe() -> None:
    """Of ((x - m) / s) squared, m moves the sum as a polynomial, and s divides it by its square."""
    part: Any = SimpleNamespace(run=lambda at, rows, shared: at.stats[1].pow(-2).reshape(1))
    m, s = torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    probe: Any = object()
    taylor = Taylor(probe, there=s.pow(-2).reshape(1))
    base = Centre({0: m, 1: s}, {}, (0,), (Direction(0, False, None),))
    assert taylor.weights(part, [base], Centre({0: m, 1: 2 * s}, {}), {}).tolist() == [[0.25]]


def test_power_sums_move_from_one_centre_to_another() -> None:
    """The third power around one centre is made of the third, three times the second, and so on, around another."""

    def third(x: Tensor) -> Tensor:
        return (x - x.mean()).pow(3).mean()

    left, right = bp.exact(third), bp.exact(third)
    x = torch.randn(200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for batch in x.split(50):
        left.update(batch)
        right.update(3 * batch.square() + 1)
    assert left.plan.is_constant_size
    whole = third(torch.cat([x, 3 * x.square() + 1]))
    assert float(left.merge_state(right).compute()) == pytest.approx(float(whole), rel=1e-12)


@pytest.mark.parametrize(
    ("fn", "powers"),
    [
        (lambda x: (x - x.mean()).square().sum(), 3),
        (lambda x: (x.mean() - x).pow(3).sum(), 4),
        (lambda x, y: ((x - x.mean()) * (y - y.mean())).sum(), 4),
    ],
    ids=["square", "third power", "product"],
)
def test_a_polynomial_in_statistics_has_its_weights_in_closed_form(fn: Callable[..., Any], powers: int) -> None:
    plan = derive(fn, [X, X.exp()][: fn.__code__.co_argcount], [0] * fn.__code__.co_argcount)
    (found,) = [at for at in plan.centred.values() if isinstance(at, CentredSum)]
    assert found.taylor is not None
    assert len(found.centres) == powers
