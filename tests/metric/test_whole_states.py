"""An interrupt leaves a state whole; a plan that later samples contradict is refused; few rows are held."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.metric.grouped_state import GroupedState
from promise import difference


def several(x: Tensor) -> tuple[Tensor, ...]:
    """Leaves that merge in every way."""
    return x.mean(), x.amax(), x.amin(), (x > 3).any(), (x > -9).all(), x.var(), x[x > 0].sum()


def fed(n: int = 100, seed: int = 0) -> tuple[bp.Exact, Tensor]:
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    metric = bp.exact(several)
    metric.update(x)
    return metric, x


def interrupted_at_every_line(action: Callable[[], Any], owner: Any, after: Callable[[], None]) -> int:
    """Run an action again and again, interrupted at a later line of a file each time, until it gets through."""
    file, line = sys.modules[owner.__module__].__file__, 0
    before = sys.gettrace()  # the one that measures coverage
    while True:
        left = line

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != file:
                return None  # its lines are none of ours, and tracing them would take minutes
            if event == "line":
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            action()
        except KeyboardInterrupt:
            after()
        else:
            return line
        finally:
            sys.settrace(before)
        line += 1 if line < 6 else 29  # the first lines, then some of each loop: a plan is derived anew for each


@pytest.mark.parametrize("owner", [GroupedState, bp.Exact], ids=["state", "metric"])
@pytest.mark.parametrize("verb", ["update", "merge_state", "load_state_dict", "reset"])
def test_an_interrupt_leaves_all_or_nothing(verb: str, owner: Any) -> None:
    metric, x = fed()
    other, y = fed(50, seed=1)
    saved = metric.state_dict()
    whole = {"update": torch.cat([x, y]), "merge_state": torch.cat([x, y]), "load_state_dict": y, "reset": x[:0]}[verb]
    given = {"update": [y], "merge_state": [other], "load_state_dict": [other.state_dict()], "reset": []}[verb]

    def is_one_of_both() -> None:
        for samples in (x, whole):
            if metric.n_samples == len(samples):
                if len(samples):
                    assert difference(metric.compute(), several(samples), 1e-9) is None
                metric.load_state_dict(saved)
                return
        raise AssertionError(f"{metric.n_samples} samples")

    lines = interrupted_at_every_line(lambda: getattr(metric, verb)(*given), owner, is_one_of_both)
    is_one_of_both()
    assert lines > 0 or verb == "reset"


def test_a_leaf_that_cannot_be_merged_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    metric, x = fed()
    metric.update(x[:40])
    slots = metric._stream.slots
    assert slots is not None

    def broken(*args: Any) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(slots, "_merges", [*slots._merges[:-1], broken])
    for _ in range(slots.groups - 2):  # groups that are empty take no merge
        metric.update(x[:3])
    n = metric.n_samples
    with pytest.raises((MemoryError, bp.BatchproofError)):
        metric.update(x[:3])
    assert metric.n_samples == n
    assert difference(metric.compute(), several(torch.cat([x, x[:40], x[:3].repeat(slots.groups - 2)])), 1e-9) is None


def test_a_function_that_raises_leaves_the_state() -> None:
    calls = []

    def fn(x: Tensor) -> Tensor:
        calls.append(1)
        if len(x) == 13:
            raise ZeroDivisionError
        return x.square().mean().sqrt()

    fn_of_state = bp.exact(lambda x: fn(x))
    x = torch.randn(100, dtype=torch.float64)
    fn_of_state.update(x)
    with pytest.raises(ZeroDivisionError):
        fn_of_state(x[:13])
    assert fn_of_state.n_samples == 100


def test_a_function_that_raises_at_its_second_call_leaves_the_samples() -> None:
    """As a singular value decomposition of samples with infinities does now and then."""
    calls = count(1)

    def fn(x: Tensor) -> Tensor:
        if next(calls) == 2:
            raise torch.linalg.LinAlgError
        return x.square().mean().sqrt()

    metric = bp.exact(fn)
    x = torch.randn(100, dtype=torch.float64)
    for part in x.split(40):
        metric.update(part)
    assert next(calls) > 3
    assert difference(metric.compute(), x.square().mean().sqrt(), 1e-12) is None


# ------------------------------------------------------------------ the plan, tried again at the end


def planted(metric: bp.Exact) -> None:
    """Make the metric's fold clamp what is larger than the first samples were."""
    (variant,) = metric._stream.variants.values()
    code = variant.plan.wide
    variant.plan.wide = replace(code, lines=("x = [x[0].clamp(max=1.0)]", *code.lines))


def test_a_plan_that_later_samples_contradict_is_refused() -> None:
    metric = bp.exact(lambda x: x.square().mean().sqrt())
    first, later = torch.rand(64), torch.rand(500) * 5
    metric.update(first)
    planted(metric)
    metric.compute()  # the samples that it was derived from show nothing
    metric.update(later)
    for _ in range(2):
        with pytest.raises(bp.BatchproofError, match="state='rows'"):
            metric.compute()
    assert metric.n_samples == 564


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize(
    "fn",
    [
        lambda x: (x.double() > 0.5).double().mean(),
        lambda x: x.double().var() / x.double().mean(),
        lambda x: (x.float() * 3).round().mean(),
        lambda x: x.double().exp().sum().log(),
        lambda x: (x.double() * 0 / 0).mean() if x.dtype is not torch.int64 else x.sum(),
    ],
)
def test_what_rounding_decides_is_no_contradiction(fn: Callable[..., Tensor], dtype: torch.dtype) -> None:
    metric = bp.exact(fn)
    for i in range(5):
        x = (torch.randint(0, 8, (60,), generator=torch.Generator().manual_seed(i)) / 4).to(dtype)
        metric.update(x)
    metric.compute()


def test_the_generator_of_the_user_is_left_alone() -> None:
    before = torch.get_rng_state()
    metric, _ = fed(500)
    metric.update(torch.zeros(500, dtype=torch.float64))
    metric.compute()
    assert torch.equal(before, torch.get_rng_state())


def test_a_reservoir_is_drawn_evenly() -> None:
    """Of 2,000 samples in ragged batches the mean place of 64 is that of all, within 4 of its errors of 577 / 8."""
    metric = bp.exact(lambda x: x.mean())
    start = 0
    for size in [64, *[7, 1, 30, 62] * 19, 36]:
        metric.update(torch.arange(start, start + size, dtype=torch.float64))
        start += size
    drawn = metric._stream.sample()
    places = [row.leaves[0].item() for row in drawn.rows]
    assert drawn.n == start == 2000
    assert len(set(places)) == 64
    assert abs(sum(places) / 64 - 1000) < 4 * 577 / 8


def test_few_rows_are_held_and_saved() -> None:
    metric = bp.exact(lambda x: x.square().mean().sqrt())
    for _ in range(3):
        metric.update(torch.randn(20_000, 100))
    state = metric.state_dict()
    assert metric._stream.training_rows is not None
    assert metric._stream.training_rows.n <= 64
    assert all(len(leaf) <= 64 for leaf in state["lesson"])
    assert sum(len(leaves[0]) for leaves in state["sample"]) <= 64


# ------------------------------------------------------------------ states of other functions


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (lambda p: (p > 0.5).double().mean(), lambda p: (p > 0.7).double().mean()),
        (lambda p: p.clamp(max=1).mean(), lambda p: p.clamp(max=2).mean()),
        (lambda p: (p**2).mean(), lambda p: (p**3).mean()),
        (lambda p: (p * 1.0).abs().mean(), lambda p: (p * 100.0).abs().mean()),
    ],
    ids=["threshold", "clamp", "exponent", "unit"],
)
@pytest.mark.parametrize("over", ["dataset", "samples"])
def test_a_state_of_a_function_with_other_numbers_is_refused(mine: Any, theirs: Any, over: Any) -> None:
    metric, other, same = (bp.exact(fn, over=over) for fn in (mine, theirs, mine))
    metric.update(torch.randn(100, dtype=torch.float64))
    with pytest.raises(bp.BatchproofError, match="another function"):
        other.load_state_dict(metric.state_dict())
    same.load_state_dict(metric.state_dict())
    assert same.compute() == metric.compute()
    other.update(torch.randn(100, dtype=torch.float64))
    with pytest.raises(bp.BatchproofError, match="mismatched"):
        metric.merge_state(other)


def test_a_state_over_samples_is_none_over_the_dataset() -> None:
    metric, other = bp.exact(torch.std), bp.exact(torch.std, over="samples")
    metric.update(torch.randn(100, 3))
    other.update(torch.randn(100, 3))
    for mine, theirs in ((metric, other), (other, metric)):
        with pytest.raises(bp.BatchproofError, match="over="):
            mine.load_state_dict(theirs.state_dict())


def test_a_state_over_samples_knows_the_weights_of_its_function() -> None:
    metric, other = (bp.exact(torch.nn.Linear(3, 1), over="samples") for _ in range(2))
    metric.update(torch.randn(100, 3))
    with pytest.raises(bp.BatchproofError, match="weights"):
        other.load_state_dict(metric.state_dict())


def test_numbers_that_follow_the_data_do_not_stand_in_the_way() -> None:
    def fn(x: Tensor) -> Tensor:
        return x.sum() / (len(x) - 1) * x.max().item() / len(x) ** 0.5

    x = torch.randn(300, dtype=torch.float64).abs() + 1
    left, right = bp.exact(fn), bp.exact(fn)
    left.update(x[:100])
    right.update(x[100:])
    arrived = bp.exact(fn)
    arrived.load_state_dict(right.state_dict())
    left.merge_state(arrived)
    assert difference(left.compute(), fn(x), 1e-9) is None
