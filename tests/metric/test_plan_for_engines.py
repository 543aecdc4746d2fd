"""A plan as the face for engines: fold, merge, finish, and states that travel as bytes and as arrow."""

import pickle
from dataclasses import replace
from itertools import pairwise

import cloudpickle
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import batchproof
from batchproof import BatchproofError, PartialState
from batchproof.errors import NotConstantSize


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


def macro_f1(pred: Tensor, real: Tensor) -> Tensor:
    table = torch.bincount(4 * (real > 0).long() + (pred > 0).long(), minlength=16).view(4, 4).double()
    return (2 * table.diagonal() / (table.sum(0) + table.sum(1)).clamp(min=1)).mean()


def extremes(pred: Tensor, real: Tensor) -> dict[str, Tensor]:
    return {"span": pred.amax() - real.amin(), "hit": (pred > 3).any(), "all": (real > -9).all()}


def of_the_chosen(pred: Tensor, real: Tensor) -> Tensor:
    return pred[real > 0].abs().mean()


def spectrum(pred: Tensor, real: Tensor) -> Tensor:
    return torch.complex(pred, real).mean().abs()


FUNCTIONS = [rmse, r2, macro_f1, extremes, of_the_chosen, spectrum]


def samples(n: int = 500, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real = 5 + torch.randn(n, generator=generator, dtype=torch.float64)
    return real + torch.randn(n, generator=generator, dtype=torch.float64) - 5, real - 5


def close(a: object, b: object) -> bool:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    return True


@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("way", ["as they are", "bytes", "arrow", "pickle"])
def test_states_merge_to_the_value_on_all_samples_however_they_travel(fn, way):
    pred, real = samples()
    plan = batchproof.plan(fn, pred[:64], real[:64])
    worker = pickle.loads(pickle.dumps(plan))
    cuts = [0, 1, 2, 90, 91, 300, 500]
    states = [worker.fold(pred[a:b], real[a:b]) for a, b in pairwise(cuts)]
    sent = {
        "as they are": lambda state: state,
        "bytes": lambda state: plan.state(state.to_bytes()),
        "arrow": lambda state: plan.state(state.to_arrow()),
        "pickle": lambda state: pickle.loads(pickle.dumps(state)),
    }[way]
    merged = plan.merge([plan.merge(map(sent, states[3:])), plan.empty(), *map(sent, states[:3])])
    assert merged.n == 500
    assert close(plan.finish(merged), fn(pred, real))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_cut_in_any_order_gives_one_value(sizes, chance):
    pred, real = samples(sum(sizes) + 2, seed=len(sizes))
    plan = PLANS[chance.randrange(len(PLANS))]
    parts = zip(pred.split([*sizes, 2]), real.split([*sizes, 2]), strict=True)
    states = [plan.fold(*part) for part in parts]
    chance.shuffle(states)
    middle = chance.randrange(len(states) + 1)
    merged = plan.merge([plan.merge(states[:middle]), plan.merge(states[middle:])])
    assert close(plan.finish(merged), plan.fn(pred, real))


PLANS = [batchproof.plan(fn, *samples(64)) for fn in (rmse, r2)]


def test_a_table_of_states_is_merged():
    pred, real = samples()
    plan = batchproof.plan(r2, pred[:64], real[:64])
    rows = [plan.fold(*part).to_arrow() for part in zip(pred.split(100), real.split(100), strict=True)]
    table = pa.Table.from_batches(rows)
    assert table.schema.equals(plan.schema, check_metadata=False)
    assert close(plan.finish(plan.state(table)), r2(pred, real))


def test_the_schema_says_how_each_leaf_merges_and_where_it_is_from():
    plan = batchproof.plan(extremes, *samples(64))
    merges = [field.metadata[b"merge"].decode() for field in plan.schema if field.name.startswith("leaf")]
    assert sorted(merges) == sorted(str(leaf.merge) for leaf in plan.plan.leaves)
    assert all(
        b"test_plan_for_engines.py" in field.metadata[b"line"] for field in plan.schema if b"line" in field.metadata
    )


def test_a_state_is_its_leaves_and_little_more():
    plan = batchproof.plan(rmse, *samples(64))
    state = plan.fold(*samples(1000))
    assert state.nbytes == 16
    assert len(state.to_bytes()) == 32


def test_no_sample_is_in_a_plan_or_a_state():
    pred, real = samples(64)
    plan = batchproof.plan(r2, pred, real)
    sent = cloudpickle.dumps(plan) + plan.fold(pred, real).to_bytes()
    for value in torch.cat([pred, real]):
        assert value.numpy().tobytes() not in sent


def test_a_function_without_a_name_to_import_travels_with_cloudpickle():
    plan = batchproof.plan(lambda x: x.std(), torch.randn(50, dtype=torch.float64))
    x = torch.arange(9.0, dtype=torch.float64)
    other = pickle.loads(cloudpickle.dumps(plan))
    assert close(other.finish(other.fold(x)), x.std())


def test_a_function_that_needs_its_samples_is_refused():
    with pytest.raises(NotConstantSize, match="median needs all samples together"):
        batchproof.plan(torch.median, torch.randn(50))


def test_states_of_other_functions_numbers_and_examples_do_not_merge():
    def huber(delta):
        return lambda x: torch.nn.functional.huber_loss(x, torch.zeros_like(x), delta=delta)

    x = torch.randn(50, dtype=torch.float64)
    plan = batchproof.plan(huber(1.0), x)
    for other in (batchproof.plan(huber(2.0), x), batchproof.plan(torch.mean, x)):
        with pytest.raises(BatchproofError, match="not of <Aggregation"):
            plan.merge([other.fold(x)])
        with pytest.raises(BatchproofError, match=r"not of|no state of"):
            plan.state(other.fold(x).to_bytes())
    with pytest.raises(BatchproofError, match=r"3 bytes are no state"):
        plan.state(b"abc")
    with pytest.raises(BatchproofError, match="no column n"):
        plan.state(pa.table({"x": [1]}))


def test_no_samples():
    plan = batchproof.plan(rmse, *samples(64))
    nothing = plan.fold(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64))
    assert isinstance(nothing, PartialState)
    assert nothing.n == plan.merge([]).n == 0
    with pytest.raises(BatchproofError, match="no sample"):
        plan.finish(nothing)


def test_what_is_not_like_the_example_is_refused():
    plan = batchproof.plan(lambda x: x.square().mean(), torch.randn(50, 3))
    with pytest.raises(BatchproofError, match="another shape"):
        plan.fold(torch.randn(50, 4))
    with pytest.raises(BatchproofError, match="convert it first"):
        plan.fold(torch.randn(50, 3).double())


def test_a_function_that_goes_another_way_on_all_samples_gives_its_value_there():
    def scaled(x: Tensor) -> Tensor:
        return (x / x.abs().max()).mean() if x.max() > 10 else x.mean()

    x = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = batchproof.plan(scaled, x[:64])
    small, large = plan.fold(x[:100]), plan.fold(100 * x[100:])
    assert close(plan.finish(small), scaled(x[:100]))
    assert close(plan.finish(plan.merge([small, large])), scaled(torch.cat([x[:100], 100 * x[100:]])))


@pytest.mark.parametrize("number", [1, 2, 4, 8])
def test_a_state_that_is_wrong_for_later_samples_is_found_out_by_a_batch(number):
    """The example's plan is spoilt on purpose: no function is known that gets past all other nets."""
    x = torch.linspace(0, 1, 64, dtype=torch.float64)
    plan = batchproof.plan(lambda x: x.square().mean(), x)
    spoilt = plan.plan.wide
    for variant in plan._stream.variants.values():
        variant.plan.wide = replace(spoilt, lines=("x = [x[0].clamp(max=1.0)]", *spoilt.lines))
    for _ in range(number - 1):
        plan.fold(x)
    with pytest.raises(BatchproofError, match="does not give the function's value on later ones"):
        plan.fold(5 * x)
