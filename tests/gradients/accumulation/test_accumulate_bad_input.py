"""accumulate given what it cannot take: one clear error, and ``.grad`` as before, the same objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_accumulate_hard import LOSSES, mlp, parts, pearson, ranking, rmse, stepped, through
from torch import Tensor, nn

import batchproof as bp
from batchproof.gradients.accumulation import cache as memory
from functions import normal
from gradients import Task, same_gradient, same_gradients


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Each test learns its losses itself."""
    memory._known.clear()
    yield
    memory._known.clear()


@pytest.fixture
def model() -> Iterator[nn.Module]:
    """Some of its parameters have a gradient already, some have none; nothing of that may change."""
    model = mlp()
    parameters = list(model.parameters())
    old = torch.full_like(parameters[0], 0.5)
    parameters[0].grad = old
    yield model
    assert parameters[0].grad is old and bool((old == 0.5).all())
    assert all(p.grad is None for p in parameters[1:])


def first(part: Any) -> int:
    return len(part[0])


FORWARDS: dict[str, tuple[Callable[[nn.Module], Callable[[Any], Any]], str]] = {
    "one argument": (lambda model: lambda part: model(part[0]), r"1 argument .*missing.*'real'.*rmse takes \(pred"),
    "three": (lambda model: lambda part: (model(part[0]), part[1], 1), "3 arguments .*too many"),
    "other names": (lambda model: lambda part: {"pred": model(part[0]), "y": part[1]}, "pred, y .*'real'"),
    "nothing": (lambda model: lambda part: None, "missing a required argument"),
    "no tensors": (lambda model: lambda part: (1, 2), "no argument carries samples"),
    "scalars": (
        lambda model: lambda part: (model(part[0]).mean(), part[1].mean()),
        "'pred' of shape .* no dimension 0",
    ),
    "the loss": (
        lambda model: lambda part: rmse(model(part[0])[:, 0], part[1]),
        "one number .* hand over what the loss is computed from",
    ),
    "two sizes": (lambda model: lambda part: (model(part[0])[1:, 0], part[1]), "13 samples where .* has 12"),
    "later, two sizes": (
        lambda model: lambda part: (model(part[0])[first(part) == 20 :, 0], part[1]),
        "20 samples where .* has 19",
    ),
    "empty": (lambda model: lambda part: (model(part[0])[:0, 0], part[1][:0]), "batch is empty"),
    "detached": (lambda model: lambda part: (model(part[0]).detach()[:, 0], part[1]), "no gradient flows"),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_what_forward_returns(model: nn.Module, name: str) -> None:
    make, match = FORWARDS[name]
    for _ in range(2):
        with pytest.raises(bp.BatchproofError, match=match):
            bp.accumulate(rmse, make(model), parts())


def test_an_empty_micro_batch_is_refused_wherever_it_comes(model: nn.Module) -> None:
    data = parts()
    empty = data[0][0][:0], data[0][1][:0]
    for loss in LOSSES.values():
        for place in (0, 2, len(data)):
            with pytest.raises(bp.BatchproofError, match="empty"):
                bp.accumulate(loss, through(model), [*data[:place], empty, *data[place:]])


RETURNS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "a vector": (lambda p, y: p - y, r"one real number; .*shape \(\d+,\): reduce it"),
    "a float": (lambda p, y: (p - y).mean().item(), "a Python number has no gradient"),
    "an integer": (lambda p, y: (p > y).sum(), "one real number; it returned torch.int64"),
    "complex": (lambda p, y: (p - y).mean().to(torch.complex128), "one real number; it returned torch.complex128"),
    "a tuple": (lambda p, y: ((p - y).mean(), 1), "returned a tuple"),
    "a dict": (lambda p, y: {"loss": (p - y).mean()}, "returned a dict"),
    "nothing": (lambda p, y: None, "returned a NoneType"),
    "detached": (lambda p, y: (p - y).square().mean().detach(), "no gradient flows"),
    "random": (lambda p, y: (p - y + torch.randn(())).square().mean(), "random"),
}


@pytest.mark.parametrize("name", RETURNS)
def test_what_the_loss_returns(model: nn.Module, name: str) -> None:
    loss, match = RETURNS[name]
    for data in (parts(), parts()[:2]):  # enough to learn from, and too few
        if name == "random" and len(data) == 2:
            continue
        with pytest.raises(bp.BatchproofError, match=match):
            bp.accumulate(loss, through(model), data)


def test_one_number_in_a_vector_is_a_loss() -> None:
    model = mlp()
    task = Task(lambda p, y: (p - y).square().mean(0, keepdim=True), through(model), list(model.parameters()))
    same_gradient(task, parts())


def test_no_parameter_requires_a_gradient(model: nn.Module) -> None:
    model.requires_grad_(False)
    for loss in LOSSES.values():
        with pytest.raises(bp.BatchproofError, match="none of them has requires_grad"):
            bp.accumulate(loss, through(model), parts())


@pytest.mark.parametrize("things", [torch.zeros(3, 4), {"a": 1}, "abc", None, 3])
def test_what_are_no_micro_batches(model: nn.Module, things: Any) -> None:
    with pytest.raises(bp.BatchproofError, match=r"must be a list of micro-batches, not .*batch.split"):
        bp.accumulate(rmse, through(model), things)


@pytest.mark.parametrize("nothing", [list, lambda: iter([])])
def test_no_micro_batches(model: nn.Module, nothing: Callable[[], Any]) -> None:
    for _ in range(2):
        with pytest.raises(bp.BatchproofError, match="micro_batches is empty"):
            bp.accumulate(rmse, through(model), nothing())
    acc = bp.Accumulator(rmse)
    with pytest.raises(bp.BatchproofError, match="empty"):
        acc.finish()


def test_no_functions(model: nn.Module) -> None:
    with pytest.raises(bp.BatchproofError, match="forward must be a function or a module, not int"):
        bp.accumulate(rmse, 3, parts())  # type: ignore[arg-type]
    with pytest.raises(bp.BatchproofError, match="loss_fn must be a function or a module, not str"):
        bp.accumulate("mse", through(model), parts())  # type: ignore[arg-type]
    with pytest.raises(bp.BatchproofError, match="loss_fn must be a function or a module, not NoneType"):
        bp.Accumulator(None)  # type: ignore[arg-type]


def test_batch_dimensions_that_are_not_there(model: nn.Module) -> None:
    with pytest.raises(bp.BatchproofError, match="no dimension 5"):
        bp.accumulate(rmse, through(model), parts(), batch_dim=5)
    with pytest.raises(bp.BatchproofError, match="names 1 positional arguments, the call has 2"):
        bp.accumulate(rmse, through(model), parts(), batch_dim=(0,))


# ------------------------------------------------------------------ micro-batches that come once, or otherwise


class Changing:
    """Gone through a second time, it gives something else."""

    def __init__(self, *times: list[Any]) -> None:
        self.times = list(times)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.times.pop(0) if len(self.times) > 1 else self.times[0])


ONCE: dict[str, Callable[[], Any]] = {
    "iterator": lambda: iter(parts()),
    "generator": lambda: (part for part in parts()),
    "map": lambda: map(tuple, parts()),
    "zip": lambda: zip(*(torch.cat(column).split(7) for column in zip(*parts()))),
}


@pytest.mark.parametrize("name", ONCE)
def test_what_can_be_gone_through_once(model: nn.Module, name: str) -> None:
    """Also once the loss is known, and with so few of them that they are all looked at to learn it."""
    for _ in range(2):
        with pytest.raises(bp.BatchproofError, match=r"two passes over micro_batches .*pass a list"):
            bp.accumulate(ranking, through(model), ONCE[name]())


@pytest.mark.parametrize("loss", [pearson, ranking])
def test_other_micro_batches_the_second_time(model: nn.Module, loss: Any) -> None:
    """Another number of them, another order, other samples."""
    data = parts()
    forward = through(model)
    for second in (data[:3], [*data, data[0]], data[:2]):
        with pytest.raises(bp.BatchproofError, match=rf"gave 5 .* first pass and {len(second)} in the second"):
            bp.accumulate(loss, forward, Changing(data, data, second) if not memory._known else Changing(data, second))
    others = [(x + 1e-5, y) for x, y in data]
    with pytest.raises(bp.BatchproofError, match="other outputs in the second pass"):
        bp.accumulate(loss, forward, Changing(data, others))


def test_an_order_that_changes_where_outputs_are_kept(model: nn.Module) -> None:
    with pytest.raises(bp.BatchproofError, match="in the same order"):
        bp.accumulate(ranking, through(model), Changing(parts(), parts(), parts()[::-1]))


def test_few_from_an_iterator_are_held() -> None:
    """All of them were needed to learn the loss, so they are there for a second pass."""
    model = mlp()
    data = parts()[:2]
    loss, _ = Task(ranking, through(model), list(model.parameters())).one_batch(data)
    assert torch.allclose(bp.accumulate(ranking, through(model), iter(data)), loss)


# ------------------------------------------------------------------ errors of the user's own; modes


def raising(model: nn.Module, when: int) -> Callable[[Any], Any]:
    """A forward pass whose call of this number raises."""
    calls = 0

    def forward(part: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == when:
            raise KeyError("mine")
        return through(model)(part)

    return forward


@pytest.mark.parametrize("name", LOSSES)
def test_errors_of_forward_pass_through(model: nn.Module, name: str) -> None:
    """In the look ahead, in the first pass and in the second."""
    passes = 5 if name == "rmse" else 10
    first, last = 3 + 1, 3 + passes  # three micro-batches are looked at first
    for when in {1, 2, 3, first, first + 1, (first + last + 1) // 2, last}:
        memory._known.clear()
        with pytest.raises(KeyError, match="mine"):
            bp.accumulate(LOSSES[name], raising(model, when), parts())
    bp.accumulate(LOSSES[name], through(mlp()), parts())
    for when in range(1, passes + 1):
        with pytest.raises(KeyError, match="mine"):
            bp.accumulate(LOSSES[name], raising(model, when), parts())


def test_errors_of_the_loss_pass_through(model: nn.Module) -> None:
    limit = 0

    def loss(pred: Tensor, real: Tensor) -> Tensor:
        if len(pred) > limit:
            raise ZeroDivisionError("mine")
        return rmse(pred, real)

    for limit in (0, 33):  # noqa: B007
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="mine"):
                bp.accumulate(loss, through(model), parts())


def test_errors_of_micro_batches_pass_through(model: nn.Module) -> None:
    def broken() -> Iterator[Any]:
        yield from parts()[:3]
        raise OSError("mine")

    for _ in range(2):
        with pytest.raises(OSError, match="mine"):
            bp.accumulate(rmse, through(model), broken())


def test_inference_mode_is_refused_and_no_grad_is_not(model: nn.Module) -> None:
    other = mlp()
    task = Task(rmse, through(other), list(other.parameters()))
    for loss in LOSSES.values():
        with torch.inference_mode(), pytest.raises(bp.BatchproofError, match="no gradient flows"):
            bp.accumulate(loss, through(model), parts())
    _, expected = task.one_batch(parts())
    other.zero_grad()
    with torch.no_grad():
        bp.accumulate(rmse, through(other), parts())
    same_gradients([parameter.grad for parameter in other.parameters()], expected, "under no_grad")


# ------------------------------------------------------------------ Accumulator


def test_an_accumulator_refuses_what_needs_two_passes(model: nn.Module) -> None:
    acc = bp.Accumulator(ranking)
    for _ in range(2):
        with pytest.raises(bp.BatchproofError, match=r"one micro-batch at a time .*use batchproof.accumulate"):
            stepped(acc, through(model))


def test_after_a_refusal_an_accumulator_begins_anew() -> None:
    """What came before the refusal is gone, the gradients are as before it, and the next step is exact."""
    model = mlp()
    acc = bp.Accumulator(rmse)
    forward = through(model)
    _, expected = Task(rmse, forward, list(model.parameters())).one_batch(parts())
    model.zero_grad()
    for count in (1, 4):
        for part in parts()[:count]:
            acc.backward(*forward(part))
        with pytest.raises(bp.BatchproofError, match="samples where"):
            acc.backward(normal(3), normal(4))
        assert all(p.grad is None for p in model.parameters())
    for part in parts():
        acc.backward(*forward(part))
    acc.finish()
    same_gradients([parameter.grad for parameter in model.parameters()], expected, "after a refusal")
    model.zero_grad()
    for part in parts()[:3]:
        acc.backward(*forward(part))
    acc.reset()
    assert all(p.grad is None for p in model.parameters())


def test_parameter_hooks_are_refused_by_an_accumulator(model: nn.Module) -> None:
    handle = next(model.parameters()).register_hook(lambda grad: grad)
    with pytest.raises(bp.BatchproofError, match="gradient hook"):
        stepped(bp.Accumulator(rmse), through(model))
    handle.remove()


@pytest.mark.parametrize("batch_dim", ["a", None, 0.5, (0, "a")])
def test_a_batch_dim_that_is_none(batch_dim: object, model: nn.Module) -> None:
    with pytest.raises(bp.BatchproofError, match=r"batch_dim=.*expected an int"):
        bp.accumulate(rmse, lambda part: part, [], batch_dim=batch_dim)  # type: ignore[arg-type]
    with pytest.raises(bp.BatchproofError, match=r"batch_dim=.*expected an int"):
        bp.Accumulator(rmse, batch_dim=batch_dim)  # type: ignore[arg-type]
