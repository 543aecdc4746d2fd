"""The same seed gives the same table; nothing is left behind; functions that raise, write, or have no value."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchproof as bp
from batchproof.simulation import Simulation
from simulated import Function, near, run


def rmse(e: Tensor) -> Tensor:
    return e.square().mean().sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (pred - real).square().sum() / (real - real.mean()).square().sum()


def median(e: Tensor) -> Tensor:
    return e.median()


def table(found: Simulation) -> str:
    return json.dumps({**found.to_dict(), "seconds": 0})


OWN = torch.randn(2, 60, generator=torch.Generator().manual_seed(0))
CASES = {
    "direct": (None, "normal", [1, 7, 100_000], {}),
    "drawn": (rmse, "laplace", [1, 7, 70_001], {"direct": False}),
    "two": (r2, "t:5", [2, 40], {}),
    "called": (median, "uniform", [1, 40], {}),
    "rows": (r2, (OWN[0] + OWN[1], OWN[1]), [2, 40, 700], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_table_on_any_number_of_threads(case: str) -> None:
    fn, errors, sizes, options = CASES[case]
    odd, tables = [], set()
    for threads in (1, 2, 5, 1):
        odd.append(torch.empty(random.randrange(1, 5000)))  # other memory, other alignment
        tables.add(table(run(fn, errors, sizes, 25, seed=4, threads=threads, **options)))
    assert len(tables) == 1
    assert table(run(fn, errors, sizes, 25, seed=5, **options)) not in tables


def test_same_table_in_another_process_with_other_threads() -> None:
    code = "import batchproof as b; print([(r.mean.value, r.pooled.value, r.ratio.standard_error) for direct in (0, 1) "
    code += "for r in b.simulate(batch_sizes=[3, 2000, 70000], batches=25, direct=bool(direct)).rows])"
    rows = [row for direct in (False, True) for row in run(None, "normal", [3, 2000, 70_000], 25, direct=direct).rows]
    environment = {**os.environ, "OMP_NUM_THREADS": "4", "PYTHONPATH": str(Path(bp.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr([(row.mean.value, row.pooled.value, row.ratio.standard_error) for row in rows])


def test_sizes_do_not_touch_each_other() -> None:
    together = run(None, "normal", [1, 7, 100], 50).rows
    for row in together:
        assert run(None, "normal", [row.size], 50).rows == (row,)
    assert [row.mean.value for row in run(None, "normal", [100, 7, 1, 7], 50).rows] == [r.mean.value for r in together]


def test_random_states_and_thread_counts_are_left_alone() -> None:
    torch.manual_seed(3)
    torch.set_num_threads(2)
    try:
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        for fn, errors, sizes, options in CASES.values():
            run(fn, errors, sizes[:2], 25, **options)
        with pytest.raises(bp.BatchproofError):
            run(None, "gauss1an")
        assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
        assert before[2] == np.random.get_state()[1].tolist()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("case", ["direct", "drawn", "two", "called"])
def test_in_any_mode(case: str) -> None:
    fn, errors, sizes, options = CASES[case]
    plain = table(run(fn, errors, sizes[:2], 25, **options))
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert table(run(fn, errors, sizes[:2], 25, **options)) == plain
    torch.set_default_dtype(torch.float64)
    try:
        wide = run(fn, errors, sizes[:2], 25, **options)
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(wide.rows, json.loads(plain)["rows"], strict=True):
        assert a.pooled.value == pytest.approx(b["pooled"]["value"], rel=1e-6, abs=1e-6)


def test_in_another_thread() -> None:
    found: list[str] = []
    worker = threading.Thread(target=lambda: found.append(table(run(rmse, "laplace", [1, 7], 40))))
    worker.start()
    worker.join()
    assert found == [table(run(rmse, "laplace", [1, 7], 40))]


def test_no_threads_are_left() -> None:
    before = threading.active_count()
    run(rmse, "laplace", [1, 50_000], 40, threads=5)
    assert threading.active_count() == before


def test_a_million_batches_and_many_threads() -> None:
    row = run(rmse, "laplace", [1], 300_000, threads=40).rows[0]
    assert row.batches == 300_000 and near(row.mean, 100.0)


# ------------------------------------------------------------------ modules


class Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return (self.norm(x) * self.scale).pow(3).mean()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("held", [False, True], ids=["itself", "in a closure"])
def test_modules_are_left_as_they_were(training: bool, held: bool) -> None:
    loss = Loss().train(training)
    loss.norm.eval()
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    try:
        run((lambda x: loss(x) + loss.norm(x).mean()) if held else loss, torch.randn(40, 3), [4, 9], 25)
    except bp.BatchproofError as error:
        assert str(error).strip()
    assert {key: value.tolist() for key, value in loss.state_dict().items()} == {
        k: v.tolist() for k, v in before.items()
    }
    assert loss.training == training and not loss.norm.training and loss.scale.grad is None


def test_metric_objects_are_left_as_they_were() -> None:
    from torchmetrics import MeanSquaredError

    metric = MeanSquaredError(squared=False)
    metric.update(torch.ones(3), torch.zeros(3))
    found = run(metric, "normal", [1, 20], 200)
    assert metric.compute() == 1
    assert near(found.rows[0].mean, 100 * math.sqrt(2 / math.pi)) and near(found.rows[1].mean, 98.8)


# ------------------------------------------------------------------ functions that write into their arguments


def squares(e: Tensor) -> Tensor:
    e.mul_(e)
    return e.mean().sqrt()


def squares_in_python(e: Tensor) -> float:
    e.mul_(e)
    return e.mean().sqrt().item()


def shifted(e: Tensor) -> Tensor:
    e.sub_(10)
    return e.median()


def of_two(pred: Tensor, real: Tensor) -> Tensor:
    pred -= real
    return pred.pow_(2).mean().sqrt()


def clipped(e: Tensor) -> Tensor:
    e[e > 0] = 0
    return e.abs().mean()


def sorted_numpy(e: Tensor) -> float:
    e.numpy().sort()
    e.numpy()[0] = 0
    return float(e.numpy().mean())


PURE: dict[Function, Function] = {
    squares: rmse,
    squares_in_python: lambda e: rmse(e).item(),
    shifted: lambda e: (e - 10).median(),
    of_two: lambda pred, real: rmse(pred - real),
    clipped: lambda e: e.clamp(max=0).abs().mean(),
    sorted_numpy: lambda e: float(e.sum() - e.min()) / len(e),
}


@pytest.mark.parametrize("fn", PURE, ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("own", [False, True], ids=["normal", "own data"])
def test_functions_that_write_into_their_arguments(fn: Function, own: bool) -> None:
    x = torch.randn(70, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = (x + OWN[0, :1], x) if fn is of_two else x
    kept = x.clone()
    for direct in (True, False):
        mine, theirs = (run(f, data if own else "normal", [4, 600], 30, direct=direct) for f in (fn, PURE[fn]))
        for a, b in zip(mine.rows, theirs.rows, strict=True):
            for part in ("mean", "pooled"):
                one, other = getattr(a, part), getattr(b, part)
                if part == "pooled" and a.pooled_samples != b.pooled_samples:
                    continue
                if a.how == b.how or a.size < 600:
                    assert one.value == pytest.approx(other.value, rel=1e-6, abs=1e-9), (a.size, part)
                else:
                    assert near(one, other.value, other.standard_error)
                if one.expected is not None and one.standard_error > 0:
                    assert near(one, one.expected, deviations=5)
    assert torch.equal(x, kept)


# ------------------------------------------------------------------ batches without a value


def short(e: Tensor) -> Tensor:
    if len(e) < 5:
        raise ValueError("too few")
    return rmse(e)


@pytest.mark.parametrize("fn", [short, lambda e: e.topk(5).values.mean(), lambda e: e.unfold(0, 5, 1).mean()])
def test_functions_that_raise_on_short_batches(fn: Function) -> None:
    for errors in ("normal", OWN[0], OWN[0, :7]):
        found = run(fn, errors, [1, 4, 5, 90], 30)
        assert [row.undefined for row in found.rows] == [30, 30, 0, 0]
        assert math.isnan(found.rows[0].mean.value) and math.isfinite(found.rows[2].mean.value)
        assert found.depends is True
        str(found)


def test_nothing_but_undefined_batches() -> None:
    found = run(torch.std, "normal", [1], 40)
    assert found.rows[0].undefined == 40 and math.isnan(found.rows[0].mean.value)
    assert near(found.rows[0].pooled, 100) or math.isnan(found.rows[0].pooled.standard_error)
    str(found), found._repr_html_(), json.dumps(found.to_dict(), allow_nan=False)


def test_some_undefined_batches() -> None:
    for row in run(lambda e: e[e > 50].mean(), "normal", [1, 3, 10], 2000).rows:
        missing = 2000 * 0.6914624612740131**row.size  # the normal distribution at a half
        assert abs(row.undefined - missing) < 5 * math.sqrt(missing) + 1
        assert row.mean.value > 50


def test_infinite_values() -> None:
    row = run(lambda e: torch.where(e > 150, math.inf, e).mean(), "normal", [2], 500).rows[0]
    assert row.undefined and math.isfinite(row.mean.value) and row.pooled.value == math.inf


def test_a_result_of_another_length_has_no_value() -> None:
    def largest(e: Tensor) -> Tensor:
        return e.sort().values[-3:]

    found = run(largest, "normal", [1, 2, 3, 10], 40)
    assert [row.undefined for row in found.rows] == [40, 40, 0, 0]


@pytest.mark.parametrize("batches", [1, 2, 20, 21])
def test_few_batches(batches: int) -> None:
    for fn, direct in ((None, True), (None, False), (median, True), (r2, True)):
        found = run(fn, "normal", [3, 30], batches, direct=direct)
        for row in found.rows:
            assert row.batches == batches and row.pooled_samples <= row.size * batches
            assert math.isnan(row.mean.standard_error) == (batches == 1)
            assert math.isnan(row.pooled.standard_error) == (batches == 1)
        str(found), found._repr_html_(), json.dumps(found.to_dict(), allow_nan=False)
    row = run(rmse, "laplace", [5], 1).rows[0]
    assert row.mean.value == pytest.approx(row.pooled.value) and row.ratio.value == pytest.approx(1)


def test_batches_of_one_only() -> None:
    found = run(None, "normal", [1], 500)
    assert len(found.rows) == 1 and found.depends is True
    assert found.rows[0].shortfall == pytest.approx(1 - math.sqrt(2 / math.pi), rel=1e-2)


def test_what_does_not_depend_on_the_batch_size() -> None:
    for fn in (F.mse_loss, lambda e: e.abs().mean(), lambda e: torch.stack([e.mean(), e.square().mean()])):
        for direct in (True, False):
            assert run(fn, "normal", [1, 10], 100, direct=direct).depends is False


def test_noise_is_not_taken_for_dependence() -> None:
    """The mean of a random half of a batch: no bias at all, only noise. In 48 tables no more than a few may say so."""

    def half(e: Tensor) -> Tensor:
        return e[e.frac().abs() > 0.5].square().mean()

    for batches in (2, 4, 15):
        said = [run(half, "normal", [40], batches, seed=seed).depends for seed in range(16)]
        assert said.count(True) <= 2, batches
        assert said.count(False) <= 2


def test_python_numbers_keep_their_digits() -> None:
    """They are double precision."""
    whole = run(lambda e: float(e.square().mean()), "normal", [7], 50, scale=1e30).rows[0]
    assert whole.mean.value == pytest.approx(1e60, rel=0.5) and not whole.undefined
    tiny = run(lambda e: e.square().mean().item(), "normal", [7], 50, scale=1e-30).rows[0]
    assert tiny.mean.value == pytest.approx(1e-60, rel=0.5)
    exact, python = (run(fn, OWN[0], [7], 50).rows[0] for fn in (rmse, lambda e: rmse(e).item()))
    assert python.mean.value == pytest.approx(exact.mean.value, rel=1e-12)
    assert python.pooled.value == pytest.approx(exact.pooled.value, rel=1e-12)


def test_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fn, errors, sizes, options in CASES.values():
            run(fn, errors, sizes[:2], 25, **options)
        run(torch.std, "normal", [1, 2], 20)


def test_nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """Not even what torch's C++ code says of itself."""
    label = torch.randint(0, 2, (50,)).double()
    for fn in (F.binary_cross_entropy_with_logits, F.soft_margin_loss, F.cosine_embedding_loss, F.multi_margin_loss):
        run(fn, "normal", [3], 20)
    run(F.binary_cross_entropy_with_logits, (torch.randn(50), label), [3], 20)
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_next_to_zero_a_difference_is_judged_in_standard_errors() -> None:
    def decibel(pred: Tensor, real: Tensor) -> Tensor:
        return 10 * torch.log10(1e4 / (pred - real).square().mean())

    found = bp.simulate(decibel, "normal", batch_sizes=[1, 4, 16], batches=400)
    assert found.depends is True
    assert re.search(r" 0\.\d+ too high at batch size 16, 6\.\d+ too high at batch size 1; ", found.headline)
    assert re.search(r"at your batch size, 1, it is 6\.\d+ ± 0\.\d+ too high", str(replace(found, marked=1)))
    assert "-31x" not in str(found)

    def bias(pred: Tensor, real: Tensor) -> Tensor:
        return (pred - real).mean()

    assert bp.simulate(bias, "normal", batch_sizes=[1, 4, 16], batches=400).depends is not True
