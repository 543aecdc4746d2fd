"""exact: any function of a batch as a streaming metric that gives its value on all samples together."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Literal, overload

import torch
from torch.utils import _pytree as pytree

from batchproof.derive import Plan
from batchproof.errors import BatchproofError
from batchproof.ground.batch import (
    Batch,
    Dims,
    bound,
    check_batch_dim,
    keep,
    one_sample,
    read,
)
from batchproof.metric import distributed, jackknife, merging
from batchproof.metric.fingerprints import same_function
from batchproof.metric.grouped_state import GROUPS, GroupedState
from batchproof.metric.many import ExactMany
from batchproof.metric.per_sample import SampleValues, mean_of_each, per_sample
from batchproof.metric.stream import Stream

Over = Literal["dataset", "samples"]
Keep = Literal["auto", "rows", "constant"]


Functions = Mapping[str, Any] | list[Any] | tuple[Any, ...]


@overload
def exact(
    fn: Callable[..., Any], *, over: Over = ..., batch_dim: Dims = ..., state: Keep = ..., warmup: int = ...
) -> Exact: ...


@overload
def exact(
    fn: Functions, *, over: Over = ..., batch_dim: Dims = ..., state: Keep = ..., warmup: int = ...
) -> ExactMany: ...


def exact(
    fn: Callable[..., Any] | Functions,
    *,
    over: Over = "dataset",
    batch_dim: Dims = 0,
    state: Keep = "auto",
    warmup: int = 32,
) -> Exact | ExactMany:
    """A streaming metric that gives ``fn``'s value on all samples together, however they were batched.

    >>> import torch, batchproof
    >>> def rmse(pred, real):
    ...     return torch.sqrt(torch.mean((pred - real) ** 2))
    >>> pred, real = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 4.0])
    >>> metric = batchproof.exact(rmse)
    >>> for i in range(3):
    ...     metric.update(pred[i : i + 1], real[i : i + 1])
    >>> metric.compute() == rmse(pred, real)
    tensor(True)

    Args:
        fn: a function, lambda, partial or ``nn.Module`` of tensors of any shape and dtype (numpy arrays and lists also
            work: their samples are kept). It returns a tensor of any shape, a Python number, or a tuple or dict of
            these. A dict, list or tuple of functions of the same arguments gives all their values, and what they share
            is folded once; an `Exact` among them has options of its own.
        over: ``"dataset"``, the value on all samples together; ``"samples"``, the mean of the values on single samples
            (PSNR or Dice per image).
        batch_dim: the dimension that counts samples; or one per positional argument, None for what all batches share
            (class weights).
        state: ``"auto"`` keeps a state of constant size where the function has one and samples where it has none;
            ``"constant"`` refuses where it has none; ``"rows"`` always keeps samples.
        warmup: how many samples are kept before the constant-size form is derived from them, and folded then.

    Returns:
        An `Exact`, which has seen no samples yet; for several functions an `ExactMany`.

    Raises:
        BatchproofError: ``fn`` cannot be called, or an option is not one of the above.
    """
    if not callable(fn) and not isinstance(fn, (Mapping, list, tuple)):
        raise BatchproofError(f"exact takes a function or a module, not {type(fn).__name__}")
    if over not in ("dataset", "samples"):
        raise BatchproofError(f"over={over!r}: expected 'dataset' or 'samples'")
    if state not in ("auto", "rows", "constant"):
        raise BatchproofError(f"state={state!r}: expected 'auto', 'rows' or 'constant'")
    if not isinstance(warmup, int) or warmup < 1:  # type: ignore[redundant-expr]
        raise BatchproofError(f"warmup={warmup!r}: expected a whole number of samples, at least 1")
    options = over, check_batch_dim(batch_dim), state, warmup
    if callable(fn):
        return Exact(fn, *options)
    kind = dict if isinstance(fn, Mapping) else list if isinstance(fn, list) else tuple
    named = fn.items() if isinstance(fn, Mapping) else ((str(place), one) for place, one in enumerate(fn))
    return ExactMany({name: _member(name, one, *options) for name, one in named}, kind)


def _member(name: Any, fn: Any, *options: Any) -> Exact:
    """One function of several; a metric that has seen nothing keeps its own options."""
    if not isinstance(name, str):
        raise BatchproofError(f"exact takes functions by names that are strings, not {name!r}")
    if isinstance(fn, Exact):
        if fn.n_samples:
            raise BatchproofError(f"{name} has seen {fn.n_samples} samples already: begin with a new one")
        return Exact(fn.fn, fn.over, fn.batch_dim, fn.state, fn.warmup)
    if not callable(fn):
        raise BatchproofError(f"exact takes functions or modules; {name} is of type {type(fn).__name__}")
    return Exact(fn, *options)


class Exact:
    """A metric made by `exact`: call it on a batch, or `update`; then `compute`.

    >>> import torch, batchproof
    >>> metric = batchproof.exact(lambda x: x.std())
    >>> metric.update(torch.tensor([1.0, 2.0]))
    >>> metric.update(torch.tensor([6.0]))
    >>> round(metric.compute().item(), 4)
    2.6458

    Sums are kept in float64, those of whole numbers in their own type, on the device of the batches.  A value has the
    type, dtype and shape that ``fn`` gives.
    """

    def __init__(self, fn: Callable[..., Any], over: Over, batch_dim: Dims, state: Keep, warmup: int) -> None:
        self.fn = fn
        self.over = over
        self.batch_dim = batch_dim
        self.state = state
        self.warmup = warmup
        self._values: SampleValues | None = None  # over samples: the types of the last values
        self._stream = self._new_stream()

    def _new_stream(self) -> Stream:
        return Stream(self.fn if self.over == "dataset" else mean_of_each, self.state, self.warmup)

    # ------------------------------------------------------------------ a batch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value on this batch, with its autograd graph, and the batch folded in.

        >>> import torch, batchproof
        >>> metric = batchproof.exact(lambda x: x.square().mean().sqrt())
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> metric(x).backward()
        >>> x.grad is not None, metric.n_samples
        (True, 2)

        Raises:
            BatchproofError: the batch does not fit those before (another number of dimensions, arguments that disagree
                about the number of samples), or ``fn`` is refused (it is random); the state stays as it was. What
                ``fn`` itself raises passes through untouched, and the state stays as it was then, too.
        """
        if self.over == "samples":
            call = self._read(args, kwargs)
            sample = self._known_sample(call)  # before fn, which may write into its arguments
            values = per_sample(self.fn, call)
            self._fold_values(values, sample)
            return values.mean()
        found = self._stream.ready_to_call(args) if not kwargs else None
        if found is not None:
            ready, answers = found
            fn = self.fn if answers is None else partial(answers.call, self.fn)
            value = self._stream.called(args, ready[2], lambda: fn(*args))
            self._stream.commit(ready, args, drawn=True)
            return value
        call = keep(self._read(args, kwargs))  # before fn, which may write into its arguments
        self._stream.check(call)
        value = self.fn(*args, **kwargs)
        self._stream.fold(call)
        return value

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Fold a batch in; no value of its own is computed.

        Raises:
            BatchproofError: as in a call; the state stays as it was.
            NotConstantSize: ``state="constant"``, and ``fn`` has no exact state of constant size.
        """
        if self.over == "samples":
            with torch.no_grad():
                call = self._read(args, kwargs)
                sample = self._known_sample(call)
                self._fold_values(per_sample(self.fn, call), sample)
            return
        ready = self._stream.ready(args) if not kwargs else None
        if ready is not None:
            self._stream.commit(ready, args)
        else:
            self._stream.fold(self._read(args, kwargs))

    def _read(self, args: Any, kwargs: Any) -> Batch:
        if self._stream.first is None:
            bound(self.fn, args, kwargs)
        first = self._stream.first if self.over == "dataset" else None
        return read(self.fn, args, kwargs, self.batch_dim, None if first is None else first.layout)

    def _known_sample(self, call: Batch) -> Batch:
        return one_sample(call) if self._values is None or self._values.sample is None else self._values.sample

    def _fold_values(self, values: SampleValues, sample: Batch) -> None:
        self._values = SampleValues([], values.tree, values.types, sample)
        self._stream.fold(values.detached())

    # ------------------------------------------------------------------ a value

    def compute(self) -> Any:
        """The exact value over all that was folded in, in the type, dtype and shape that ``fn`` returns; no gradient.

        More batches may follow, and `compute` be called again.

        Raises:
            BatchproofError: nothing was folded in; or on all samples together ``fn`` goes another way than on the first
                batch (a branch, a size), or too many digits of a sum have cancelled; or on
                a few samples drawn from the whole stream the state does not give what ``fn`` itself gives.
        """
        return self._shown(self._stream.compute())

    def _shown(self, result: Any) -> Any:
        if self.over == "samples":
            assert self._values is not None
            return self._values.typed(result)
        return result

    def standard_error(self) -> Any:
        """The standard error of `compute`'s value, by a grouped jackknife over merged states; no samples are kept.

        Batches go to 20 groups in turn; the value is computed with one group left out at a time. Batches are taken to
        be independent of each other.

        >>> import torch, batchproof
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> metric = batchproof.exact(lambda x: x.mean())
        >>> for batch in x.split(100):
        ...     metric.update(batch)
        >>> 0.005 < metric.standard_error().item() < 0.02        # 1 / sqrt(10,000) = 0.01
        True

        Returns:
            As `compute`, each number its standard error, in float64 and in the unit of the value.

        Raises:
            BatchproofError: fewer than two batches were folded in, or the state is too large to be held in groups.
        """
        parts = self._stream.parts()
        if isinstance(parts, GroupedState):
            self._stream.recheck()
            if parts.groups == 1:
                raise BatchproofError(f"a state of {parts.plan.nbytes} bytes is held once, not in groups: no error bar")
            counts = parts.counts

            def value(groups: Sequence[int]) -> Any:
                return self._shown(self._stream.value(parts, groups))
        else:
            counts = [sum(call.n for group, call in parts if group == number) for number in range(GROUPS)]

            def value(groups: Sequence[int]) -> Any:
                return self._shown(self._stream.value_on([call for group, call in parts if group in groups]))

        return jackknife.standard_error(value, counts)

    @property
    def plan(self) -> Plan:
        """What is kept, how it merges, how many bytes it takes, and the lines that it comes from; prints as a report.

        Raises:
            BatchproofError: no batch has come yet.
        """
        return self._stream.planned()

    @property
    def n_samples(self) -> int:
        """Samples folded in so far."""
        return self._stream.n

    # ------------------------------------------------------------------ states

    def reset(self) -> None:
        """Forget all samples, and the plan with them: the next batch is a first one."""
        self._stream = self._stream.emptied()

    def merge_state(self, others: Exact | Iterable[Exact]) -> Exact:
        """Take in what other metrics of the same function hold; they stay as they are.

        >>> import torch, batchproof
        >>> left, right = batchproof.exact(torch.mean), batchproof.exact(torch.mean)
        >>> left.update(torch.tensor([1.0, 2.0]))
        >>> right.update(torch.tensor([6.0]))
        >>> left.merge_state(right).compute()
        tensor(3.)

        Returns:
            This metric.

        Raises:
            BatchproofError: one of them holds another state; ours stays as it was.
        """
        others = [others] if isinstance(others, Exact) else list(others)
        for other in others:
            if not isinstance(other, Exact):
                raise BatchproofError(f"merge_state takes metrics made by exact, not {type(other).__name__}")
            if (other.over, other.batch_dim) != (self.over, self.batch_dim):
                raise BatchproofError("mismatched states: the metrics differ in over= or batch_dim=")
            if self.over == "samples" and not same_function(self.fn, other.fn):
                raise BatchproofError("mismatched states: the two metrics are of different functions")
        draft = self._stream.draft()
        for other in others:
            merging.merge(draft, other._stream)
        self._values = self._values or next((other._values for other in others if other._values is not None), None)
        self._stream.become(draft)
        return self

    def sync(self, group: Any = None, *, n_samples: int | None = None) -> Exact:
        """Merge over the processes of ``torch.distributed``: every rank then holds all ranks' samples.

        The state is then this rank's own samples and, apart from them, those of the others. So it may go on in any
        order: more updates, saving, loading, copying, merging and another `sync`; no sample is counted twice. Each rank
        may load its own checkpoint, or all of them that of one rank. Ranks may hold different numbers of samples, or
        none.

        Args:
            group: the process group; the default one if None.
            n_samples: how many samples all ranks together must hold. Samplers that give every rank as many repeat
                some, ``batchproof.integrations.repeats`` leaves them out, and with this no repeat goes unnoticed.

        Returns:
            This metric.

        Raises:
            BatchproofError: no process group is initialised, the ranks hold states of different functions, states that
                share samples in a way that cannot be told apart, or another number of samples than ``n_samples``. It is
                raised on every rank, and the states stay as they were.
        """
        told = distributed.sync(self._stream, group, self._values, n_samples)
        self._values = self._values or next((values for values in told if values is not None), None)
        return self

    def state_dict(self) -> dict[str, Any]:
        """The state as plain containers of tensors, to save and load.

        It says which samples are this metric's own and which came from other ranks by `sync`, so that a metric that
        loads it can be synced again. Beside the leaves it holds the plan, a kilobyte or two, so that loading derives
        nothing. Where samples are folded, none of them is in it; where they are kept, they are the state.

        >>> import torch, batchproof
        >>> metric, other = batchproof.exact(torch.mean), batchproof.exact(torch.mean)
        >>> metric.update(torch.tensor([1.0, 2.0, 6.0]))
        >>> other.load_state_dict(metric.state_dict())
        >>> other.compute()
        tensor(3.)
        """
        return self._saved()

    def _saved(self, *, with_samples: bool = False) -> dict[str, Any]:
        saved = merging.save(self._stream, with_samples=with_samples)
        saved["values"] = None if self._values is None else self._values.described(self.fn)
        return saved

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a saved state in place of this one.

        Raises:
            BatchproofError: it belongs to another function, or to one with other numbers in it (a threshold, an
                exponent, a unit); the state stays as it was.
        """
        missing = {"layout", "updates", "values"} - set(state)
        if missing:
            raise BatchproofError(f"this is no state of an exact metric: {', '.join(sorted(missing))} missing")
        if state["n"] and (state["values"] is None) != (self.over == "dataset"):
            raise BatchproofError("the saved state does not fit: it is of a metric with another over=")
        values = None if state["values"] is None else SampleValues.of(state["values"], self.fn)
        fresh = merging.load(self._stream, state)
        self._values = values
        self._stream = fresh

    def to(self, device: Any) -> Exact:
        """Move the state to a device, and ``fn`` with it where it is a module.

        Args:
            device: a ``torch.device``, or its name.

        Returns:
            This metric.
        """
        saved = pytree.tree_map(
            lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, self._saved(with_samples=True)
        )
        if isinstance(self.fn, torch.nn.Module):
            self.fn.to(device)
        self.load_state_dict(saved)
        return self

    def __getstate__(self) -> dict[str, Any]:
        options = {key: getattr(self, key) for key in ("fn", "over", "batch_dim", "state", "warmup")}
        return {**options, "saved": self.state_dict()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Exact:
        """A copy in this process keeps the few samples that a folded state is tried on."""
        other = object.__new__(type(self))
        options = {key: getattr(self, key) for key in ("over", "batch_dim", "state", "warmup")}
        other.__setstate__({"fn": copy.deepcopy(self.fn, memo), **options, "saved": self._saved(with_samples=True)})
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("saved")
        state.pop("torchmetrics", None)  # what it was set to as a metric of torchmetrics, which is not installed here
        self.__init__(**state)  # type: ignore[misc]
        self.load_state_dict(saved)

    def __reduce__(self) -> Any:
        return _blank, (type(self),), self.__getstate__()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What ``isinstance`` asks for beside the type: it becomes a ``torchmetrics.Metric`` as it is asked for one.

        So a module, a collection or a trainer takes it, whether it was made before torchmetrics was imported or after,
        and one that nobody asks stays as light as it is.
        """
        if type(self) is not Exact or not hasattr(sys.modules.get("torchmetrics"), "Metric"):
            return type(self)
        return _torchmetric().adopt(self)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        return f"<Exact {name}: {self.n_samples:,} samples>"


def _torchmetric() -> Any:
    """The file that imports torchmetrics, and this one."""
    return import_module("batchproof.metric.torchmetric")


def _blank(kind: type[Exact]) -> Exact:
    """A metric that is about to get its state."""
    return object.__new__(kind)


def _blank_metric() -> Exact:
    """A metric of torchmetrics that is about to get its state; without that package an `Exact`."""
    try:
        import torchmetrics  # noqa: F401
    except ImportError:
        return _blank(Exact)
    return _blank(_torchmetric().TorchmetricsExact)
