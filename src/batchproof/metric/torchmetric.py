"""An `Exact` as a metric of torchmetrics: in modules, collections and wrappers, synced by `compute`.

It keeps its state in a `Stream`, as any `Exact`; torchmetrics sees one state, the bytes of a saved one, which are made
when they are asked for. Neither `update` nor `compute` is wrapped, so a batch costs what it costs an `Exact`.
"""

from __future__ import annotations

import inspect
import io
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torchmetrics import Metric
from torchmetrics.utilities.exceptions import TorchMetricsUserError
from torchmetrics.utilities.plot import plot_single_or_multi_val

from batchproof.errors import BatchproofError
from batchproof.metric.exact import Exact, _blank_metric

#: The one state, by the name that torchmetrics knows it by.
STATE = "exact_state"
_OPTIONS = ("fn", "over", "batch_dim", "state", "warmup")
#: What is set anew in a copy.
_OWN = {*_OPTIONS, "_values", "_stream", "_update_signature", "_before", "_synced", "_cached", "_step_value"}


class TorchmetricsExact(Exact, Metric):
    """What an `Exact` becomes once it is asked whether it is a ``torchmetrics.Metric``; nobody makes one by hand."""

    full_state_update = False
    __hash__ = object.__hash__
    __call__: Callable[..., Any] = torch.nn.Module.__call__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        Exact.__init__(self, *args, **kwargs)
        self.join()

    def join(self) -> None:
        """Set what torchmetrics expects of a metric, beside what an `Exact` has."""
        self._cached: Any = None  # the last value, and of what
        self._synced: Any = None  # of what `sync` was called
        self._before: Any = None  # what there was, for `unsync`
        self._step_value: Any = None
        self._shows_tensors = False
        self._is_used = False
        self._moving = False
        Metric.__init__(self)
        for name in ("update", "compute"):  # those of the instance
            vars(self).pop(name, None)
        self._defaults = {STATE: torch.empty(0, dtype=torch.uint8)}
        self._persistent, self._reductions = {STATE: False}, {STATE: None}
        self._update_signature = _signature(self.fn)

    def _wrap_update(self, update: Callable[..., Any]) -> Callable[..., Any]:
        return update

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        return compute

    def __setattr__(self, name: str, value: Any) -> None:
        # ``fn`` may be a module, even the one that this metric is part of: it is no child
        object.__setattr__(self, name, value)

    # An ``isinstance`` anywhere makes an `Exact` one of these. Only what is part of a module or a collection talks to
    # other ranks in `compute`: a loop's own metric, asked for its value on one rank, would wait for ever.

    def train(self, mode: bool = True) -> TorchmetricsExact:
        """Called by the module that it is part of."""
        self._is_used = True
        return torch.nn.Module.train(self, mode)

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Called by the module that it is part of, and by trainers."""
        self._is_used = True
        yield from torch.nn.Module.named_modules(self, *args, **kwargs)

    def _filter_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        self._is_used = True  # by a collection
        return Metric._filter_kwargs(self, **kwargs)

    # ------------------------------------------------------------------ a batch

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The value on this batch, and the batch folded in; over all ranks' batches with ``dist_sync_on_step``."""
        over_ranks = self._step(args, kwargs) if self.dist_sync_on_step and self._ranks() else None
        value = Exact.__call__(self, *args, **kwargs)
        value = value if over_ranks is None else over_ranks.compute()
        self._step_value = _each_tensor(torch.Tensor.detach, value)
        return value

    def _step(self, args: Any, kwargs: Any) -> Exact:
        """The batches of this step on all ranks."""
        step = self._plain()
        step._stream = self._stream.emptied() if self._stream.slots is None else self._stream.with_plan_alone()
        step.update(*args, **kwargs)
        return step.sync(self.process_group)

    @property
    def _forward_cache(self) -> Any:
        # Lightning reads it of each metric that it logs, and logs tensors alone
        self._shows_tensors = self._is_used = True
        return _as_tensors(self._step_value)

    @_forward_cache.setter
    def _forward_cache(self, value: Any) -> None:
        self._step_value = value

    @property
    def _update_count(self) -> int:
        return self._stream.updates

    @_update_count.setter
    def _update_count(self, count: int) -> None:
        """The stream counts."""

    # ------------------------------------------------------------------ a value

    def compute(self) -> Any:
        """The exact value over all that was folded in, on all ranks where it is part of a module or a collection.

        The state stays this rank's own. Without ``sync_on_compute``, or after `sync`, ranks do not talk.

        Raises:
            BatchproofError: as `Exact.compute`.
        """
        value = self._computed
        if value is None:
            value = self._value()
            if self.compute_with_cache:
                self._computed = value
        return _each_tensor(torch.Tensor.clone, value)

    def _value(self) -> Any:
        self._refuse_gather(self.dist_sync_fn)
        is_asked = self._is_used and self._to_sync and self.sync_on_compute and not self._is_synced
        ranks = self._ranks() if is_asked else None
        value = Exact.compute(self._over_ranks() if ranks else self)
        return _as_tensors(value) if self._shows_tensors else value

    @property
    def _computed(self) -> Any:
        """The last value, while nothing came since."""
        return self._cached[1] if self._cached is not None and self._cached[0] == self._position() else None

    @_computed.setter
    def _computed(self, value: Any) -> None:
        self._cached = None if value is None else (self._position(), value)

    def _position(self) -> tuple[int, int]:
        """Changes with each update, and with each stream."""
        return id(self._stream), self._stream.updates

    # ------------------------------------------------------------------ ranks

    def _ranks(self) -> bool:
        """Whether there are several."""
        return bool(self.distributed_available_fn()) and torch.distributed.get_world_size(self.process_group) > 1

    def _plain(self) -> Exact:
        return Exact(*(getattr(self, name) for name in _OPTIONS))

    def _over_ranks(self) -> Exact:
        """A metric that holds all ranks' samples; this one stays as it is."""
        other = self._plain()
        other._stream, other._values = self._stream.draft(), self._values
        return other.sync(self.process_group)

    def sync(  # type: ignore[override]
        self,
        group: Any = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
        *,
        dist_sync_fn: Callable[..., Any] | None = None,
        **options: Any,
    ) -> TorchmetricsExact:
        """Merge over the ranks, as `Exact.sync`; `unsync` puts back what this rank had."""
        self._refuse_gather(dist_sync_fn or (group if inspect.isroutine(group) else None))
        if not should_sync or (distributed_available is not None and not distributed_available()):
            return self
        before = self._stream.draft(), self._values
        Exact.sync(self, group if group is not None else process_group or self.process_group, **options)
        if not self._is_synced:
            self._before = before
        self._cached, self._synced = None, self._position()
        return self

    @property
    def _is_synced(self) -> bool:
        """Whether all ranks' samples are here: none came since `sync`."""
        return self._synced is not None and bool(self._synced == self._position())

    @_is_synced.setter
    def _is_synced(self, synced: bool) -> None:
        self._synced = self._position() if synced else None

    def unsync(self, should_unsync: bool = True) -> None:
        """Put back what this rank had before `sync`.

        Raises:
            TorchMetricsUserError: it was not synced, or a batch came since, which would be lost.
        """
        if not should_unsync:
            return
        if self._before is None:
            raise TorchMetricsUserError("The Metric has already been un-synced.")
        if not self._is_synced:
            raise TorchMetricsUserError("unsync would lose what came since sync: call it before the next update")
        stream, self._values = self._before
        self._stream.become(stream)
        self._before = self._synced = self._cached = None

    @contextmanager
    def sync_context(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        should_unsync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> Iterator[None]:
        """Hold all ranks' samples inside the block."""
        self.sync(
            None,
            process_group,
            should_sync,
            distributed_available or self.distributed_available_fn,
            dist_sync_fn=dist_sync_fn,
        )
        yield
        self.unsync(should_unsync=self._is_synced and should_unsync)

    def _refuse_gather(self, gather: Callable[..., Any] | None) -> None:
        if gather is not None:
            raise BatchproofError(
                "dist_sync_fn gathers tensors to be stacked, and an exact state is merged otherwise: give a "
                "process_group instead"
            )

    # ------------------------------------------------------------------ states

    def reset(self) -> None:
        """Forget all samples."""
        Exact.reset(self)
        self._step_value = self._cached = self._synced = self._before = None

    def merge_state(self, others: Any) -> TorchmetricsExact:  # type: ignore[override]
        """Take in what others hold, as `Exact.merge_state`, or a ``metric_state`` of one."""
        if isinstance(others, dict):
            self._reduce_states(others)
        else:
            Exact.merge_state(self, others)
        self._cached = self._synced = None
        return self

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        """Merge states as torchmetrics hands them around; several, where a wrapper gathered them from the ranks."""
        self._is_used = True
        data = incoming_state[STATE]
        for row in [] if data.numel() == 0 else data.reshape(-1, data.shape[-1]):
            other = self._plain()
            other.load_state_dict(_of_bytes(row))
            self.merge_state(other)

    @property
    def exact_state(self) -> torch.Tensor:
        """The state, as bytes. No two are alike, so a collection shares none among its metrics."""
        return _to_bytes(self.state_dict())

    @exact_state.setter
    def exact_state(self, data: torch.Tensor) -> None:
        self.reset()
        if data.numel():
            Exact.load_state_dict(self, _of_bytes(data))
            self._move(self._device)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Its state, as `Exact.state_dict`; as a part of a module, nothing, unless ``persistent(True)`` was called."""
        return Metric.state_dict(self, *args, **kwargs) if args or kwargs else Exact.state_dict(self)

    def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Put a saved state in place of this one, as `Exact.load_state_dict`."""
        self._cached = self._synced = None
        if STATE in state:
            return Metric.load_state_dict(self, state, *args, **kwargs)
        return Exact.load_state_dict(self, state)

    # ------------------------------------------------------------------ devices and types

    def to(self, *args: Any, **kwargs: Any) -> TorchmetricsExact:
        """Move the state to a device, and ``fn`` with it where it is a module; sums stay in float64."""
        return torch.nn.Module.to(self, *args, **kwargs)

    def set_dtype(self, dst_type: str | torch.dtype) -> TorchmetricsExact:
        """Change nothing: sums are kept in float64 whatever the type of the samples."""
        return self

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> TorchmetricsExact:
        module: Any = self.fn
        if isinstance(module, torch.nn.Module) and not self._moving:  # it may be what this metric is part of
            self._moving = True
            try:
                module._apply(fn)  # type: ignore[no-untyped-call]
            finally:
                self._moving = False
        self._move(fn(torch.zeros(1, device=self._device)).device)
        return self

    def _move(self, device: torch.device) -> None:
        self._device = device
        first = self._stream.first
        held = next((leaf.device for leaf in first.columns if isinstance(leaf, torch.Tensor)), None) if first else None
        if held is not None and held != device and device.type != "meta":
            Exact.to(self, device)

    # ------------------------------------------------------------------ copies

    def __reduce__(self) -> Any:
        kept = {name: value for name, value in self._settings().items() if isinstance(value, _PLAIN)}
        return _blank_metric, (), {**self.__getstate__(), "torchmetrics": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.pop("torchmetrics", {})
        Exact.__setstate__(self, state)
        vars(self).update(kept)

    def __deepcopy__(self, memo: dict[int, Any]) -> Exact:
        other = Exact.__deepcopy__(self, memo)
        vars(other).update({name: _copied(value) for name, value in self._settings().items()})
        return other

    def _settings(self) -> dict[str, Any]:
        """What was set on it as a metric of torchmetrics."""
        return {name: value for name, value in vars(self).items() if name not in _OWN}

    # ------------------------------------------------------------------ shown

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw a value, or a list of them, as the metrics of torchmetrics do; of `compute`, where none is given.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        return plot_single_or_multi_val(self.compute() if val is None else val, ax=ax, name=name)


class _Asked(TorchmetricsExact):
    """What the ``isinstance`` is told that makes an `Exact` an `TorchmetricsExact`: it looked at the type before."""


def adopt(metric: Exact) -> type[Exact]:
    """Make a metric one of torchmetrics, where it is; its state stays."""
    object.__dict__["__class__"].__set__(metric, TorchmetricsExact)
    assert isinstance(metric, TorchmetricsExact)
    metric.join()
    return _Asked


_PLAIN = (bool, int, str, torch.device, dict)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, dict) else value


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    """Of what a batch is given as: a collection hands each metric the keywords that it takes."""
    try:
        return inspect.signature(fn.forward if isinstance(fn, torch.nn.Module) else fn)
    except (TypeError, ValueError):  # of a builtin
        return inspect.signature(Exact.update)


def _each_tensor(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    if isinstance(value, torch.Tensor):  # most are: a walk costs more than the change
        return change(value)
    return pytree.tree_map(lambda leaf: change(leaf) if isinstance(leaf, torch.Tensor) else leaf, value)


def _as_tensors(value: Any) -> Any:
    """Python's numbers as tensors."""

    def tensor(leaf: Any) -> Any:
        if isinstance(leaf, float):
            return torch.tensor(leaf, dtype=torch.float64)
        return torch.tensor(leaf) if isinstance(leaf, (bool, int, complex)) else leaf

    return pytree.tree_map(tensor, value)


def _to_bytes(saved: dict[str, Any]) -> torch.Tensor:
    """A saved state as bytes, its tensors on the CPU."""
    buffer = io.BytesIO()
    torch.save({"saved": _each_tensor(torch.Tensor.cpu, saved), "name": uuid.uuid4().hex}, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _of_bytes(data: torch.Tensor) -> dict[str, Any]:
    """What was saved. No code is run that the bytes bring."""
    try:
        saved = torch.load(io.BytesIO(data.cpu().numpy().tobytes()), weights_only=True)["saved"]
    except Exception as error:
        raise BatchproofError(f"these {data.numel():,} bytes are no state of an exact metric: {error}") from error
    assert isinstance(saved, dict)
    return saved
