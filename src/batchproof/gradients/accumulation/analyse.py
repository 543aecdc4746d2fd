"""Learn what a loss's gradient depends on, and try it against the gradient that the loss gives itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from batchproof.derive import Diverged, OwnError, StatePlan, TensorBatch
from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.analysis import ROUNDING, Found, Grads, LossAnalysis, flat, graph_of
from batchproof.gradients.accumulation.compare import Unfit, compare
from batchproof.gradients.accumulation.outputs import check_loss, loss_of, variables, with_gradient
from batchproof.gradients.accumulation.samples import few_of, with_tensors
from batchproof.ground.batch import Batch, tensors_of
from batchproof.ground.isolation import quiet, remembers
from batchproof.ground.text import first_line
from batchproof.metric import Stream

#: Of more statistics, no directions are looked for; of more directions, no gradient buffers are held.
MOST_STATISTICS = 64
MOST_BUFFERS = 8
#: So many batches more than directions are looked at.
SPARE = 3


def analyse(loss_fn: Callable[..., Any], training_rows: Batch, flags: tuple[bool, ...]) -> LossAnalysis | str:
    """What the gradient of a loss depends on; or, where all outputs have to be kept, the reason.

    Args:
        loss_fn: the loss.
        training_rows: outputs to learn from.
        flags: for each leaf of the outputs, whether a gradient flows through it.

    Raises:
        BatchproofError: the loss is random, or returns no number that could be differentiated.
    """
    small = few_of(training_rows) if training_rows.all_tensors() else training_rows
    try:
        changed = _remembers(loss_fn, small, flags)
    except BatchproofError:
        raise
    except Exception:  # a maximum over labels, say, of which these few have none
        if small.n >= training_rows.n:
            raise
        changed = _remembers(loss_fn, training_rows, flags)
    if not training_rows.all_tensors():
        return "forward returns something else than tensors"
    if changed:
        return "the loss keeps something from call to call, so it is called once, on everything"
    training_rows = small
    # the derivatives by power sums differ in size by powers of the distance from the centre, and lose digits by that
    stream = Stream(loss_fn, "auto", 1, differentiated=True)
    try:
        plan = stream.derived(training_rows)
    except OwnError as error:  # on arguments without a graph: it takes a gradient of its own, say
        return f"it cannot be called on its own ({first_line(error.__cause__)})"
    if not isinstance(plan, StatePlan):
        return plan.reason or "the loss needs all outputs together"
    stream.adopt(plan, training_rows, [])
    try:
        return _tried(
            LossAnalysis(stream, flags, graph_of(loss_fn, training_rows, flags), _sources(plan)), training_rows
        )
    except (Unfit, Diverged) as refusal:
        return str(refusal)
    except BatchproofError:
        raise
    except RuntimeError as error:  # some operations have a derivative only within those that they are a part of
        return f"its operations, one by one, have no derivative ({first_line(error)})"


def _remembers(loss_fn: Callable[..., Any], training_rows: Batch, flags: tuple[bool, ...]) -> bool:
    """Whether a loss, which must be one, keeps something from call to call."""
    with torch.enable_grad(), quiet(loss_fn):
        changed, loss = remembers(loss_fn, lambda: loss_of(loss_fn, with_gradient(training_rows, flags)))
    check_loss(loss)
    return changed


def _tried(analysis: LossAnalysis, training_rows: Batch) -> LossAnalysis:
    """What was learned, once its gradient is that of the loss."""
    plan = analysis.plan
    with torch.enable_grad():
        whole = analysis.fold(with_gradient(training_rows, analysis.flags), analysis.own())
    analysis.wanted = tuple(value.requires_grad for value in whole.values)
    del whole  # and its graph
    for leaf, want in zip(plan.leaves, analysis.wanted, strict=True):
        if want and not leaf.merge.linear:
            raise Unfit(f"its gradient flows through the {leaf.merge} of all samples, at {leaf.site}")
    if not any(analysis.wanted):
        raise Unfit("no gradient flows through its sums")
    if not analysis.keeps_rows:
        analysis.sizes = _sizes(analysis, training_rows)
        analysis.directions = _directions(analysis, training_rows)
    compare(analysis, training_rows)
    return analysis


def _sizes(analysis: LossAnalysis, training_rows: Batch) -> Tensor:
    """How large the gradient of each statistic by the outputs is."""
    call = with_gradient(training_rows, analysis.flags)
    with torch.enable_grad():
        folded = analysis.fold(call, {})
    wanted = [value for value, want in zip(folded.values, analysis.wanted, strict=True) if want]
    numbers = list(torch.cat([value.reshape(-1) for value in wanted]))
    device = numbers[0].device
    if len(numbers) > MOST_STATISTICS:
        return torch.ones(len(numbers), dtype=torch.float64, device=device)
    squares = []
    for number in numbers:
        grads = torch.autograd.grad(number, variables(call), retain_graph=True, materialize_grads=True)
        squares.append(torch.stack([grad.double().square().sum() for grad in grads]).sum())
    sizes = torch.stack(squares).sqrt()
    shown = (sizes > 0) & sizes.isfinite()
    largest = torch.where(shown, sizes, 0).amax()
    return torch.where(shown, sizes, torch.where(largest > 0, largest, 1))  # one that shows none here may later


def _directions(analysis: LossAnalysis, training_rows: Batch) -> Tensor | None:
    """The few directions that the derivative by the statistics has on many batches.

    Later derivatives are held against these too, before they are used.
    """
    count = analysis.statistics
    if count > MOST_STATISTICS:
        return None
    seen = [flat(found) for found in _slopes(analysis, training_rows)]
    seen = [vector for vector in seen if bool(vector.isfinite().all()) and bool(vector.any())]
    if count == 1:  # its size keeps gradients in half precision about as large as those of a batch
        return seen[0].unsqueeze(0) if seen else torch.ones_like(analysis.sizes).unsqueeze(0)
    if not seen:
        return None
    rows = torch.stack([vector * analysis.sizes / (vector * analysis.sizes).norm() for vector in seen])
    _, strengths, basis = torch.linalg.svd(rows, full_matrices=False)
    rank = int((strengths > ROUNDING / 10 * strengths[0]).sum())
    if rank == 1:
        return seen[0].unsqueeze(0)
    if rank == len(rows):  # more would be seen on more batches
        return torch.eye(count, dtype=torch.float64, device=rows.device) if count <= MOST_BUFFERS else None
    return basis[:rank] / analysis.sizes * seen[0].norm() if rank <= MOST_BUFFERS else None


def _slopes(analysis: LossAnalysis, training_rows: Batch) -> Iterator[Grads]:
    """The derivative by the statistics on all samples, and on random parts of them."""
    generator = torch.Generator().manual_seed(0)
    yield _slope_on(analysis, training_rows).leaves
    batch = TensorBatch(*tensors_of(training_rows))
    for _ in range(min(analysis.statistics, MOST_BUFFERS) + SPARE):
        size = int(torch.randint(max(2, batch.n // 3), batch.n, (), generator=generator)) if batch.n > 2 else batch.n
        with suppress(Diverged):  # a part may have no value of its own: no labels in it
            rows = torch.randint(0, batch.n, (size,), generator=generator)
            yield _slope_on(analysis, with_tensors(training_rows, batch.take(rows))).leaves


def _sources(plan: StatePlan) -> list[tuple[Tensor, Tensor]]:
    """The tensors from outside that the centres of sums were chosen by, as they are."""
    return [(tensor, tensor.detach().clone()) for tensor in plan.captured_by_summands()]


def _slope_on(analysis: LossAnalysis, call: Batch) -> Found:
    total = analysis.empty()
    with torch.no_grad():
        total.add(analysis.fold(call, {}))
    return analysis.slope(total.state, total)
