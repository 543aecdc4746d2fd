"""Functions that nobody wrote, on partitions that nobody chose: the promise holds for all of them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from torch import Tensor

import batchproof as bp
from programs import Program, moved, programs
from promise import each_dim, fresh, leaves, numbers, same_kind, split, upcast

Tree = Any
WAYS = ("stream", "stream", "merge", "resume", "call", "turned")


def close(got: Tree, reference: Tree, room: Sequence[Tensor | float], rtol: float) -> bool:
    for mine, theirs, extra in zip(leaves(got), leaves(reference), room, strict=True):
        a, b = numbers(mine), numbers(theirs)
        if a.shape != b.shape:
            return False
        size = b.abs().nan_to_num(posinf=0.0)
        scale = size.max() if size.numel() else torch.zeros(())
        near = (a - b).abs() <= rtol * scale + extra
        if not (near | (a == b) | (a.isnan() & b.isnan())).all():
            return False
    return True


def spread(values: Sequence[Tree], reference: Tree) -> list[Tensor]:
    """How far the function's own value moves when its samples move by rounding: the median over several moves."""
    out = []
    for i, leaf in enumerate(leaves(reference)):
        alike = [numbers(leaves(v)[i]) for v in values]
        gaps = [(v - numbers(leaf)).abs().nan_to_num() for v in alike if v.shape == numbers(leaf).shape]
        out.append(torch.stack(gaps).median(0).values if gaps else torch.zeros(()))
    return out


def judge(f: Callable[..., Any], args: tuple[Tensor, ...], got: Tree, expected: Tree, dtype: torch.dtype) -> str:
    """'same', or 'ill-conditioned' when the function's own rounding explains the gap, or what is wrong."""
    rtol = 1e-7 if dtype == torch.float64 else 2e-5
    none: list[Tensor | float] = [0.0] * len(leaves(expected))
    if not same_kind(got, expected):
        return f"another type: {got!r} for {expected!r}"
    if close(got, expected, none, rtol):
        return "same"
    wide = f(*upcast(fresh(args)))
    if dtype != torch.float64 and close(got, wide, none, rtol):
        return "same"
    unit = 1e-14 if dtype == torch.float64 else 2e-7
    near = [f(*moved(args, unit, seed)) for seed in range(24)]
    terms = sum(float(arg.double().abs().nan_to_num().sum()) for arg in args)
    room = [100 * s + 1e-15 * terms for s in spread(near, wide)]
    if dtype != torch.float64:
        narrow = [f(*(arg.to(like.dtype) for arg, like in zip(moved(args, unit, seed), args))) for seed in range(24)]
        near, room = near + narrow, [a + 10 * b for a, b in zip(room, spread(narrow, expected))]
    if any(close(got, value, room, rtol) for value in (expected, wide)) or any(close(got, v, none, rtol) for v in near):
        return "ill-conditioned"
    return f"another number: {got!r} for {expected!r} (in float64 {wide!r})"


def turned(f: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of samples that lie along the last dimension."""
    return lambda *args: f(*(arg.movedim(-1, 0) for arg in args))


def feed(f: Callable[..., Any], batches: list[tuple[Tensor, ...]], way: str) -> bp.Exact:
    """Every way for samples to come in, and all the same."""
    if way == "turned":
        dims = tuple(arg.ndim - 1 for arg in batches[0])
        f = turned(f)
        batches = [tuple(arg.movedim(0, -1).contiguous() for arg in batch) for batch in batches]
        metric = bp.exact(f, batch_dim=dims)
    else:
        metric = bp.exact(f)
    half = len(batches) // 2
    if way == "merge":
        others = [bp.exact(f), bp.exact(f)]
        for target, group in zip((metric, *others), (batches[:half], batches[half:-1], batches[-1:]), strict=True):
            for batch in group:
                target.update(*fresh(batch))
        metric.merge_state(others)
        return metric
    for i, batch in enumerate(batches):
        if way == "resume" and i == half:
            state, metric = metric.state_dict(), bp.exact(f)
            metric.load_state_dict(state)
        if way == "call":
            given_batch, expected = fresh(batch), f(*fresh(batch))
            assert judge(f, batch, metric(*given_batch), expected, batch[0].dtype) == "same", "the value on one batch"
        else:
            metric.update(*fresh(batch))
    return metric


def fails(f: Callable[..., Any], batches: list[tuple[Tensor, ...]]) -> bool:
    for batch in batches:
        try:
            f(*fresh(batch))
        except Exception:  # noqa: BLE001 - whatever a random program may raise
            return True
    return False


def keeps_the_promise(program: Program, way: str) -> str:
    f, args = program.function(), program.samples()
    batches = split(args, [piece.size for piece in program.pieces], each_dim(args, 0))
    try:
        expected = f(*fresh(args))
    except Exception:  # noqa: BLE001 - a program without a value is no example
        assume(False)
    try:
        metric = feed(f, batches, way)
        got = metric.compute()
        constant = metric.plan.is_constant_size
    except bp.BatchproofError as error:
        assert str(error).strip()
        return "refused"
    except AssertionError:
        raise
    except Exception:
        if way == "call" and fails(f, batches):
            return "raised by the function on a batch"
        raise
    verdict = judge(f, args, got, expected, program.dtype)
    assert verdict in ("same", "ill-conditioned"), f"{verdict}\n{metric.plan}"
    if verdict == "ill-conditioned":
        return verdict
    if sum(piece.size for piece in program.pieces) < 32:
        return "too few samples to fold"
    return "constant" if constant else "rows"


def run(strategy: st.SearchStrategy[Program], share: float) -> Counter[str]:
    tally: Counter[str] = Counter()

    @settings(max_examples=max(1, int(settings.default.max_examples * share)))  # type: ignore[union-attr]
    @given(strategy, st.sampled_from(WAYS))
    def check(program: Program, way: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                end = keeps_the_promise(program, way)
            except Exception as error:
                error.add_note(f"\n{program.script()}\n# fed by: {way}") if hasattr(error, "add_note") else None
                raise
        event(end)
        tally[end] += 1

    check()
    print(dict(tally))
    return tally


def of_folded(tally: Counter[str], end: str) -> float:
    folded = sum(tally[key] for key in ("constant", "rows", "refused"))
    return tally[end] / max(folded, 1)


#: A quarter of Hypothesis's examples; all of them are long.
SHARES = pytest.mark.parametrize("share", [0.25, pytest.param(1.0, marks=pytest.mark.long)])


@SHARES
def test_any_program(share: float) -> None:
    tally = run(programs(), share)
    assert of_folded(tally, "constant") >= 0.4, tally
    assert of_folded(tally, "refused") <= 0.1, tally
    assert tally["ill-conditioned"] <= 0.15 * tally.total(), tally


@SHARES
def test_programs_with_an_obvious_state(share: float) -> None:
    """Sample by sample, then sums and extremes, then arithmetic: no excuse for keeping samples."""
    tally = run(programs(obvious=True), share / 2)
    assert of_folded(tally, "constant") >= 0.95, tally
    assert tally["ill-conditioned"] <= 0.15 * tally.total(), tally


def test_the_long_profile_is_thousands() -> None:
    wanted = 5000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 200
    assert settings.default.max_examples == wanted  # type: ignore[union-attr]
