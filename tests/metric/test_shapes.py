"""Batches whose samples have different shapes: exact where no size of a sample enters the value, refused elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import batchproof as bp
from batchproof.gradients.accumulation import cache

D = torch.float64
N, LONGEST = 60, 9
TABLE = torch.rand(64, generator=torch.Generator().manual_seed(1), dtype=D)

Function = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    cache._known.clear()


def texts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sequences padded to one length: values, vectors, which places are there, how many."""
    generator = torch.Generator().manual_seed(3)
    length = torch.randint(1, LONGEST + 1, (N,), generator=generator)
    length[0] = LONGEST
    mask = (torch.arange(LONGEST) < length[:, None]).to(D)
    values = torch.rand(N, LONGEST, generator=generator, dtype=D) * mask
    vectors = torch.randn(N, LONGEST, 4, generator=generator, dtype=D) * mask[..., None]
    return values, vectors, mask, length


#: Padding is masked, or adds nothing: one padded batch of all gives what any batches give.
EXACT: dict[str, Function] = {
    "token mean": lambda v, e, m, k: (v * m).sum() / m.sum(),
    "its own mask": lambda v, e, m, k: (v * (torch.arange(v.shape[1]) < k[:, None])).sum() / k.sum(),
    "root": lambda v, e, m, k: ((v * m).square().sum() / m.sum()).sqrt(),
    "R2": lambda v, e, m, k: ((v - 0.5) * m).square().sum() / ((v - v.sum() / m.sum()) * m).square().sum(),
    "selected": lambda v, e, m, k: v[m.bool()].std(),
    "table by place": lambda v, e, m, k: (v * TABLE[: v.shape[1]]).sum() / m.sum(),
    "looked up by place": lambda v, e, m, k: (F.embedding(torch.arange(v.shape[1]), TABLE[:, None])[:, 0] * v).sum(),
    "mean of each": lambda v, e, m, k: ((v * m).sum(1) / m.sum(1)).mean(),
    "last that is there": lambda v, e, m, k: v.gather(1, k[:, None] - 1).mean(),
    "flattened and back": lambda v, e, m, k: (e.flatten(0, 1).norm(dim=1).view(v.shape) * m).sum(1).sqrt().mean(),
    "heads": lambda v, e, m, k: (e.view(len(e), -1, 2, 2).square().sum((2, 3)) * m).sum() / m.sum(),
    "attention": lambda v, e, m, k: (
        ((e @ e.mT).masked_fill(m[:, None] == 0, -1e30).softmax(-1) @ e * m[..., None]).sum() / m.sum()
    ),
    "neighbours": lambda v, e, m, k: ((v[:, 1:] - v[:, :-1]).abs() * m[:, 1:]).sum() / m.sum(),
    "cumulative": lambda v, e, m, k: (v.cumsum(1) * m).sum() / m.sum(),
    "expanded": lambda v, e, m, k: (v * k[:, None].expand(-1, v.shape[1])).sum() / m.sum(),
    "number of Python": lambda v, e, m, k: (v * m).sum().item() / m.sum().item(),  # type: ignore[dict-item,return-value]
    "transposed": lambda v, e, m, k: (v.t() * m.t()).sum(1).sum() / m.sum(),
}

#: The padded length enters, so that the value depends on which batch a sample is in.
REFUSED: dict[str, Function] = {
    "mean over all": lambda v, e, m, k: v.mean(),
    "mean over the length": lambda v, e, m, k: v.mean(1).square().mean(),
    "spread over the length": lambda v, e, m, k: v.var(1).mean(),
    "divided by the length": lambda v, e, m, k: (v.sum(1) / v.shape[1]).square().sum() / k.sum(),
    "a ramp": lambda v, e, m, k: (v * torch.linspace(0, 1, v.shape[1], dtype=D)).sum() / m.sum(),
    "a ramp by hand": lambda v, e, m, k: (v * (torch.arange(v.shape[1]) / v.shape[1])).sum() / m.sum(),
    "a ramp down": lambda v, e, m, k: (v * torch.arange(v.shape[1], 0, -1)).sum() / m.sum(),
    "the last place": lambda v, e, m, k: v[:, -1].mean(),
    "the last place by number": lambda v, e, m, k: v[:, v.shape[1] - 1].mean(),
    "the last places": lambda v, e, m, k: v[:, -1:].sum() / m.sum(),
    "the first half": lambda v, e, m, k: v[:, : v.shape[1] // 2].sum() / m.sum(),
    "halves": lambda v, e, m, k: v[:, : v.shape[1] // 2 * 2].reshape(len(v), 2, -1)[:, 0].sum() / m.sum(),
    "backwards": lambda v, e, m, k: (v.flip(1) * TABLE[: v.shape[1]]).sum() / m.sum(),
    "times the length": lambda v, e, m, k: v.sum() * v.shape[1] / m.sum(),
    "number of Python": lambda v, e, m, k: v.sum().item() / v.numel(),  # type: ignore[dict-item,return-value]
    "a constant by length": lambda v, e, m, k: (v * torch.tensor([1.0 / v.shape[1]], dtype=D)).sum() / m.sum(),
}


def batches(size: int) -> list[tuple[Tensor, ...]]:
    values, vectors, mask, length = texts()
    found = []
    for start in range(0, N, size):
        cut = slice(start, start + size)
        longest = int(length[cut].max())
        found.append((values[cut, :longest], vectors[cut, :longest], mask[cut, :longest], length[cut]))
    return found


def folded(fn: Function, parts: list[tuple[Tensor, ...]]) -> Tensor:
    metric = bp.exact(fn)
    for part in parts:
        metric.update(*part)
    return torch.as_tensor(metric.compute())


@pytest.mark.parametrize("name", EXACT)
def test_padded_to_the_batchs_longest(name: str) -> None:
    right = torch.as_tensor(EXACT[name](*texts()))
    for size in (4, 40):
        torch.testing.assert_close(folded(EXACT[name], batches(size)), right, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", EXACT)
def test_shapes_that_came_with_a_merge(name: str) -> None:
    """Later batches of another metric's shapes are folded at our centres, not at those that it kept its sums at."""
    parts = [((v + 3 * place) * m, e, m, k) for place, (v, e, m, k) in enumerate(batches(7)) if place in (0, 1, 3)]
    assert len({part[0].shape[1] for part in parts}) == 3
    right = torch.as_tensor(EXACT[name](*_padded([*parts, parts[1]])))
    mine, other = (bp.exact(EXACT[name], warmup=7) for _ in range(2))
    mine.update(*parts[0])
    for part in parts[1:]:
        other.update(*part)
    mine.merge_state(other)
    mine.update(*parts[1])
    torch.testing.assert_close(torch.as_tensor(mine.compute()), right, rtol=1e-9, atol=0)


def _padded(parts: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """All batches as one, padded to the longest."""
    longest = max(part[0].shape[1] for part in parts)
    columns = list(
        zip(
            *(
                [F.pad(x, (*(0, 0) * (x.ndim - 2), 0, longest - x.shape[1])) if x.ndim > 1 else x for x in part]
                for part in parts
            )
        )
    )
    return [torch.cat(column) for column in columns]


@pytest.mark.parametrize("name", REFUSED)
def test_a_padded_length_that_enters(name: str) -> None:
    with pytest.raises(bp.BatchproofError) as caught:
        folded(REFUSED[name], batches(4))
    assert "shape" in str(caught.value) and "\n" not in str(caught.value)


#: What stands at padded places enters: which these are is seen on the samples, no operation tells it.
LEAKS: dict[str, Function] = {
    "all but the last": lambda v, e, m, k: v[:, :-1].sum() / m[:, :-1].sum(),
    "largest of each": lambda v, e, m, k: (-v).amax(1).mean(),
    "smallest of each": lambda v, e, m, k: v.sort(1).values[:, 0].mean(),
    "softmax without a mask": lambda v, e, m, k: (v.softmax(1) * m).sum() / m.sum(),
    "attention without a mask": lambda v, e, m, k: ((e @ e.mT).softmax(-1) @ e).square().sum() / m.sum(),
    "exponentials": lambda v, e, m, k: v.exp().sum() / m.sum(),
    "zeros counted": lambda v, e, m, k: (v == 0).sum() / m.sum(),
    "product": lambda v, e, m, k: v.prod(1).mean(),
}


@pytest.mark.parametrize("name", LEAKS)
def test_padding_that_enters(name: str) -> None:
    with pytest.raises(bp.BatchproofError, match="padded to different lengths"):
        folded(LEAKS[name], batches(10))


@pytest.mark.parametrize("name", LEAKS)
def test_samples_that_are_not_padded(name: str) -> None:
    """Batches of samples that are equally long: each value is what the samples alone give."""
    generator = torch.Generator().manual_seed(5)
    metric = bp.exact(LEAKS[name])
    for k in (5, 9):
        v, e = torch.rand(N, k, generator=generator, dtype=D), torch.randn(N, k, 4, generator=generator, dtype=D)
        metric.update(v, e, torch.ones(N, k, dtype=D), torch.full((N,), k))
    metric.compute()


def test_both_shapes_and_the_line_are_named() -> None:
    with pytest.raises(bp.BatchproofError, match=r"\(7,\), .* and \(5,\), .*test_shapes.py:\d+.*over='samples'"):
        folded(REFUSED["a ramp"], [(v[:, :k], e[:, :k], m[:, :k], n) for k, (v, e, m, n) in zip((7, 5), [texts()] * 2)])


# ------------------------------------------------------------------ as many elements in other shapes


def r2(p: Tensor, y: Tensor) -> Tensor:
    return 1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()


def pearson(p: Tensor, y: Tensor) -> Tensor:
    a, b = p - p.mean(), y - y.mean()
    return (a * b).sum() / (a.norm() * b.norm())


def unexplained(p: Tensor, y: Tensor) -> Tensor:
    return (y - p).var(unbiased=False) / y.var(unbiased=False)


def spread(p: Tensor, y: Tensor) -> float:
    """Numbers of Python, in which two wrong means can agree as well."""
    return abs((p - y).sum().item() / p.numel() - 0.5)


def elements() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    p, y = torch.randn(2, 1024, generator=generator, dtype=D)
    return p, y + 3


@pytest.mark.parametrize("shapes", [((16, 32), (32, 16)), ((16, 32), (64, 8)), ((64, 8), (32, 4, 4))])
@pytest.mark.parametrize("fn", [r2, pearson, unexplained, F.mse_loss, spread])
def test_two_shapes_of_equal_size(fn: Function, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Right is the value on all elements in a row; two means over wrong counts lie as far to either side of it."""
    p, y = elements()
    halves = [(p[:512].view(shapes[0]), y[:512].view(shapes[0])), (p[512:].view(shapes[1]), y[512:].view(shapes[1]))]
    with pytest.raises(bp.BatchproofError):
        folded(fn, halves)


@pytest.mark.parametrize("fn", [r2, pearson, unexplained])
def test_samples_of_as_many_elements_are_pooled(fn: Function) -> None:
    """Pictures upright and across: each sample has as many elements, so every count is right."""
    p, y = elements()
    metric = bp.exact(fn)
    metric.update(p[:512].view(32, 2, 8), y[:512].view(32, 2, 8))
    metric.update(p[512:].view(32, 8, 2), y[512:].view(32, 8, 2))
    torch.testing.assert_close(metric.compute(), fn(p, y))


def test_merging_and_loading_compare_shapes() -> None:
    p, y = elements()
    one, other = bp.exact(r2), bp.exact(r2)
    one.update(p[:512].view(32, 16), y[:512].view(32, 16))
    other.update(p[512:].view(64, 8), y[512:].view(64, 8))
    with pytest.raises(bp.BatchproofError):
        one.merge_state(other).compute()
    ramp = REFUSED["a ramp"]
    values, vectors, mask, length = texts()
    one, other = bp.exact(ramp), bp.exact(ramp)
    one.update(values, vectors, mask, length)
    other.update(values[:, :5], vectors[:, :5], mask[:, :5], length)
    with pytest.raises(bp.BatchproofError):
        one.merge_state(other).compute()


@pytest.mark.parametrize("way", ["accumulate", "Accumulator"])
@pytest.mark.parametrize("loss_fn", [r2, pearson, unexplained])
def test_no_gradient_of_two_shapes_of_equal_size(loss_fn: Function, way: str) -> None:
    net = nn.Linear(3, 1, dtype=D)
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 32), (16, 32), (64, 8), (64, 8)]
    parts = [
        (torch.randn(*shape, 3, generator=generator, dtype=D), torch.randn(shape, generator=generator, dtype=D) + k)
        for k, shape in enumerate(shapes)
    ]

    def forward(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return net(part[0])[..., 0], part[1]

    def stepped() -> Tensor:
        accumulator = bp.Accumulator(loss_fn)
        for part in parts:
            accumulator.backward(*forward(part))
        return accumulator.finish()

    with pytest.raises(bp.BatchproofError):
        stepped() if way == "Accumulator" else bp.accumulate(loss_fn, forward, parts)
    assert net.weight.grad is None


# ------------------------------------------------------------------ what micro-batches share


def weighted(p: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return (p - y).square().mean().sqrt() * weight + (p.mean() * weight).square()


@pytest.mark.parametrize("way", ["accumulate", "Accumulator"])
def test_what_micro_batches_share_may_change_from_step_to_step(way: str) -> None:
    """A coefficient that is annealed: each step has its own, and all of its micro-batches the same."""
    net = nn.Linear(3, 1, dtype=D)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 3, generator=generator, dtype=D), torch.randn(80, 1, generator=generator, dtype=D)

    def step(weights: list[float]) -> Tensor:
        net.zero_grad()
        parts = list(zip(x.split(20), y.split(20), torch.tensor(weights, dtype=D)))
        if way == "accumulate":
            return bp.accumulate(weighted, lambda b: (net(b[0]), *b[1:]), parts, batch_dim=(0, 0, None))
        accumulator = bp.Accumulator(weighted, batch_dim=(0, 0, None))
        for a, b, weight in parts:
            accumulator.backward(net(a), b, weight)
        return accumulator.finish()

    for weight in (2.0, 3.0):
        loss = step([weight] * 4)
        found = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        net.zero_grad()
        right = weighted(net(x), y, torch.tensor(weight, dtype=D))
        right.backward()
        torch.testing.assert_close(loss, right.detach())
        torch.testing.assert_close(found, [p.grad for p in net.parameters()])
    with pytest.raises(bp.BatchproofError, match="'weight' is shared by all micro-batches"):
        step([3.0, 4.0, 5.0, 6.0])
