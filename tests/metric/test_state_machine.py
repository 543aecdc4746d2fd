"""Every sequence of verbs ends as a plain list of samples would.

The model of a metric is a list; its value is the function on the list. One process is a machine of Hypothesis; over
two processes, where every rank has to do the same number of syncs, sequences are drawn from a seed.
"""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor

import batchproof as bp
from promise import difference
from ranks import spawned

Function = Callable[..., Any]


def rmse(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def r2(x: Tensor) -> Tensor:
    y, z = x[:, 0], x[:, 1]
    return 1 - (y - z).square().sum() / (y - y.mean()).square().sum()


def extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.amax(0), x.amin()


def selected(x: Tensor) -> Tensor:
    return x[x > 0].sum() / (1 + len(x[x > 0]))


def middle(x: Tensor) -> Tensor:
    return x[:, 0].median() + x[:, 1].cumsum(0).mean()


def single(x: Tensor) -> Tensor:
    return x.square().mean().sqrt() + x.amax()


def mean_of_single(x: Tensor) -> Tensor:
    return torch.stack([single(x[i : i + 1]) for i in range(len(x))]).mean()


#: What is streamed, how, and what it gives on a list of samples.
KINDS: dict[str, tuple[Function, dict[str, Any], Function]] = {
    "a constant state": (rmse, {}, rmse),
    "centred sums": (r2, {}, r2),
    "extremes": (extremes, {}, extremes),
    "a selection": (selected, {}, selected),
    "kept rows": (middle, {}, middle),
    "rows asked for": (rmse, {"state": "rows"}, rmse),
    "over samples": (single, {"over": "samples"}, mean_of_single),
}


def batch(generator: random.Random, n: int) -> Tensor:
    rows = torch.Generator().manual_seed(generator.randrange(1 << 30))
    return generator.uniform(-3, 3) + torch.randn(n, 2, generator=rows, dtype=torch.float64)


def saved_and_loaded(metric: bp.Exact, fresh: bp.Exact) -> bp.Exact:
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    return fresh


def check(metric: bp.Exact, samples: list[Tensor], value: Function) -> None:
    n = sum(map(len, samples))
    assert metric.n_samples == n
    if n < 3:
        return
    problem = difference(metric.compute(), value(torch.cat(samples)), 1e-7)
    assert problem is None, problem


class Machine(RuleBasedStateMachine):
    """Two metrics of one function, and the list that each stands for."""

    @initialize(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 1 << 20))
    def begin(self, kind: str, seed: int) -> None:
        self.fn, self.options, self.value = KINDS[kind]
        self.random = random.Random(seed)
        self.metrics = [self.fresh(), self.fresh()]
        self.lists: list[list[Tensor]] = [[], []]

    def fresh(self) -> bp.Exact:
        return bp.exact(self.fn, **self.options)

    @rule(which=st.integers(0, 1), sizes=st.lists(st.sampled_from([1, 2, 7, 40]), min_size=1, max_size=3))
    def update(self, which: int, sizes: list[int]) -> None:
        for n in sizes:
            x = batch(self.random, n)
            self.metrics[which].update(x.clone())
            self.lists[which].append(x)

    @rule(which=st.integers(0, 1))
    def call(self, which: int) -> None:
        x = batch(self.random, 9)
        self.metrics[which](x.clone())
        self.lists[which].append(x)

    @rule(which=st.integers(0, 1))
    def merge(self, which: int) -> None:
        self.metrics[which].merge_state(self.metrics[1 - which])
        self.lists[which] += self.lists[1 - which]

    @rule(which=st.integers(0, 1))
    def reset(self, which: int) -> None:
        self.metrics[which].reset()
        self.lists[which] = []

    @rule(which=st.integers(0, 1), way=st.sampled_from(["state_dict", "pickle", "deepcopy", "to"]))
    def travel(self, which: int, way: str) -> None:
        metric = self.metrics[which]
        if way == "state_dict":
            metric = saved_and_loaded(metric, self.fresh())
        elif way == "pickle":
            metric = pickle.loads(pickle.dumps(metric))
        else:
            metric = copy.deepcopy(metric) if way == "deepcopy" else metric.to("cpu")
        self.metrics[which] = metric

    @rule(which=st.integers(0, 1))
    def give(self, which: int) -> None:
        """The other takes over the state."""
        self.metrics[1 - which].load_state_dict(self.metrics[which].state_dict())
        self.lists[1 - which] = list(self.lists[which])

    @rule(which=st.integers(0, 1))
    def error_bar(self, which: int) -> None:
        if sum(map(len, self.lists[which])) > 60:
            before = self.metrics[which].compute()
            try:
                self.metrics[which].standard_error()
            except bp.BatchproofError as error:
                assert "two batches" in str(error)
            assert difference(self.metrics[which].compute(), before, 0.0) is None

    @invariant()
    def lists_say_the_same(self) -> None:
        for metric, samples in zip(getattr(self, "metrics", []), getattr(self, "lists", []), strict=True):
            if sum(map(len, samples)) < 1000:
                check(metric, samples, self.value)


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestOneProcess = Machine.TestCase


# ------------------------------------------------------------------ two processes


class Ranked:
    """A metric on each of two ranks; both ranks keep the lists of both."""

    def __init__(self, kind: str, seed: int, rank: int) -> None:
        self.fn, self.options, self.value = KINDS[kind]
        self.random = random.Random(seed)
        self.rank = rank
        self.metric = bp.exact(self.fn, **self.options)
        self.own: list[list[Tensor]] = [[], []]
        self.others: list[list[Tensor]] = [[], []]  # in the order in which sync gave them, own ones included
        self.synced = False

    def held(self, rank: int) -> list[Tensor]:
        return self.others[rank]

    def update(self, rank: int) -> None:
        for _ in range(self.random.randint(1, 3)):
            x = batch(self.random, self.random.choice([1, 2, 9, 40]))
            if rank == self.rank:
                self.metric.update(x.clone())
            self.own[rank].append(x)
            self.others[rank].append(x)

    def sync(self) -> None:
        self.metric.sync()
        everything = [*self.own[0], *self.own[1]]
        self.others = [list(everything), list(everything)]

    def merge(self) -> None:
        """Both ranks merge in a metric that was synced itself."""
        other = bp.exact(self.fn, **self.options)
        parts = [batch(self.random, 11), batch(self.random, 50)]
        other.update(parts[self.rank].clone())
        other.sync()
        self.metric.merge_state(other)
        for rank in range(2):
            self.own[rank].append(parts[rank])
            self.others[rank] += parts

    def travel(self) -> None:
        way = self.random.choice(["state_dict", "pickle", "deepcopy", "to"])
        if way == "state_dict":
            self.metric = saved_and_loaded(self.metric, bp.exact(self.fn, **self.options))
        elif way == "pickle":
            self.metric = pickle.loads(pickle.dumps(self.metric))
        else:
            self.metric = copy.deepcopy(self.metric) if way == "deepcopy" else self.metric.to("cpu")

    def reset(self, ranks: tuple[int, ...]) -> None:
        for rank in ranks:
            if rank == self.rank:
                self.metric.reset()
            self.own[rank], self.others[rank] = [], []

    def step(self) -> None:
        verb = self.random.choices(["update", "sync", "merge", "travel", "reset"], [6, 4, 1, 3, 1])[0]
        if verb == "update":
            for rank in self.random.choice([(0,), (1,), (0, 1), (0, 1)]):
                self.update(rank)
        elif verb == "reset":
            self.reset(self.random.choice([(0,), (1,), (0, 1)]))
        else:
            getattr(self, verb)()

    def ordered(self) -> list[Tensor]:
        return self.held(self.rank)


def sequences(rank: int, world: int) -> list[str]:
    """Faults of many sequences; a rank never stops, so that the other does not wait."""
    faults = []
    for seed in range(70):
        kind = sorted(KINDS)[seed % len(KINDS)]
        run = Ranked(kind, seed, rank)
        for number in range(10):
            run.step()
            try:
                check(run.metric, run.ordered(), run.value)
            except Exception as error:  # noqa: BLE001
                faults.append(f"{kind}, seed {seed}, step {number}, rank {rank}: {type(error).__name__}: {error}")
    return faults


def journeys(rank: int, world: int) -> dict[str, Any]:
    """Ways that checkpoints take: what each ends with, and what is right."""
    rows = [batch(random.Random(i), 30) for i in range(6)]
    out: dict[str, Any] = {}

    def told(name: str, metric: bp.Exact, *samples: Tensor) -> None:
        out[name] = metric.n_samples, metric.compute(), len(torch.cat(samples)), rmse(torch.cat(samples))

    def begun() -> bp.Exact:
        metric = bp.exact(rmse)
        metric.update(rows[rank])
        metric.sync()
        return metric

    def from_rank_0(metric: bp.Exact) -> dict[str, Any]:
        box = [metric.state_dict() if rank == 0 else None]
        torch.distributed.broadcast_object_list(box, src=0)
        assert box[0] is not None
        return box[0]

    metric = bp.exact(rmse)
    metric.load_state_dict(from_rank_0(begun()))
    metric.update(rows[2 + rank])
    metric.sync()
    told("one checkpoint for all", metric, *rows[:4])
    metric.update(rows[4 + rank])
    metric.sync()
    told("and another sync", metric, *rows)

    metric = begun()
    state = from_rank_0(metric)
    if rank == 1:
        metric.load_state_dict(state)
    metric.update(rows[2 + rank])
    metric.sync()
    told("taken over by the other rank", metric, *rows[:4])

    metric, state = begun(), from_rank_0(begun())
    resumed = bp.exact(rmse)
    if rank == 0:
        resumed.load_state_dict(state)
    resumed.update(rows[2 + rank])
    resumed.sync()
    told("only one rank resumes", resumed, *rows[:4])

    template = bp.exact(rmse)
    template.update(rows[0])
    box = [pickle.dumps(template) if rank == 0 else b""]
    torch.distributed.broadcast_object_list(box, src=0)
    metric = pickle.loads(box[0])
    metric.update(rows[2 + rank])
    metric.sync()
    told("copies of one metric", metric, rows[0], *rows[2:4])

    metric = begun()
    if rank == 1:
        metric.reset()
        metric.update(rows[2])
    metric.sync()
    told("one rank was reset", metric, rows[0], rows[2])
    return out


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return spawned(everything, 2, tmp_path_factory.mktemp("ranks"))


def everything(rank: int, world: int) -> tuple[list[str], dict[str, Any]]:
    return sequences(rank, world), journeys(rank, world)


def test_two_processes(two_ranks: list[Any]) -> None:
    for faults, _ in two_ranks:
        assert not faults, "\n".join(faults[:10])


def test_checkpoints_that_travel(two_ranks: list[Any]) -> None:
    for _, found in two_ranks:
        for name, (n, value, right_n, right) in found.items():
            assert n == right_n, name
            assert difference(value, right, 1e-9) is None, name


def test_a_state_is_named_once(tmp_path: Path) -> None:
    """A metric merged with a copy of itself counts twice, as a list would."""
    metric = bp.exact(rmse)
    metric.update(batch(random.Random(0), 40))
    metric.merge_state(copy.deepcopy(metric))
    assert metric.n_samples == 80
