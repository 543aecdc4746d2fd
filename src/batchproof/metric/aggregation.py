"""plan: a function of a batch as the three functions that an engine aggregates with: fold, merge and finish."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from batchproof.derive import ROWS, GroupFold, Leaf, StatePlan, group_fold
from batchproof.errors import BatchproofError, NotConstantSize
from batchproof.ground.batch import Batch, Dims, bound, check_batch_dim, read, signature, tensors_of
from batchproof.ground.tensors import of_raw_bytes, raw_bytes
from batchproof.ground.text import counted
from batchproof.metric import merging
from batchproof.metric.fast_path import Variant
from batchproof.metric.fingerprints import centres_print, program_print, shared_print
from batchproof.metric.recheck import recheck
from batchproof.metric.reservoir import Reservoir
from batchproof.metric.stream import Stream

if TYPE_CHECKING:
    import pyarrow

#: How a state in bytes begins; changes with what follows it.
MAGIC = b"bpstate1"
#: Bytes of a print of what a state means.
PRINT = 8


def plan(fn: Callable[..., Any], *example: Any, batch_dim: Dims = 0, **named: Any) -> Aggregation:
    """How any engine computes ``fn`` on all samples together: fold each batch, merge the states, finish once.

    >>> import torch, batchproof
    >>> def rmse(pred, real):
    ...     return torch.sqrt(torch.mean((pred - real) ** 2))
    >>> pred, real = torch.randn(1000, dtype=torch.float64), torch.randn(1000, dtype=torch.float64)
    >>> plan = batchproof.plan(rmse, pred[:100], real[:100])
    >>> states = [plan.fold(*part) for part in zip(pred.split(300), real.split(300), strict=True)]
    >>> bool(torch.isclose(plan.finish(plan.merge(states)), rmse(pred, real)))
    True
    >>> len(states[0].to_bytes())
    32

    Args:
        fn: as `batchproof.exact` takes it.
        *example: a batch to derive the functions from, as ``fn`` takes it: some tens of samples, as varied as they
            come. No state holds any of it.
        batch_dim: as in `batchproof.exact`.
        **named: arguments of the example by name.

    Raises:
        NotConstantSize: ``fn`` has no state of constant size; `batchproof.exact` keeps its samples.
        BatchproofError: ``fn`` or the example is refused.
    """
    if not callable(fn):
        raise BatchproofError(f"plan takes a function or a module, not {type(fn).__name__}")
    bound(fn, example, named)
    return plan_from(fn, read(fn, example, named, check_batch_dim(batch_dim)), batch_dim)


def plan_from(fn: Callable[..., Any], example: Batch, batch_dim: Dims = 0) -> Aggregation:
    """What `plan` gives, from a batch that was read."""
    stream = Stream(fn, "constant", 1)
    stream.fold(example)
    if stream.slots is None and stream.plan is not None:
        raise NotConstantSize("its value does not depend on the samples: there is nothing to fold")
    if stream.slots is None:
        raise BatchproofError(
            f"fn has no value on the {counted(example.n, 'sample')} of the example: give more of them"
        )
    if any(leaf.merge is ROWS for leaf in stream.state_plan.leaves):
        raise NotConstantSize(f"no state of constant size: {stream.state_plan.reason}; batchproof.exact keeps samples")
    return Aggregation(stream.with_plan_alone(), batch_dim)


@dataclass(frozen=True)
class PartialState:
    """What is kept of some of the samples: `Aggregation.fold` and `merge` make it, and it travels to be merged.

    Attributes:
        leaves: a tensor for each value that is kept: sums in float64, counts in their own type.
        lengths: of selections whose length the function divides by.
        n: the number of samples.
        form: a print of what the leaves mean; only states of one form merge.
    """

    leaves: tuple[Tensor, ...]
    lengths: tuple[int, ...]
    n: int
    form: bytes

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, the number of samples included."""
        return 8 * (1 + len(self.lengths)) + sum(leaf.nbytes for leaf in self.leaves)

    def to_bytes(self) -> bytes:
        """The state as bytes, which `Aggregation.state` reads. No sample is in them."""
        numbers = struct.pack(f"<{1 + len(self.lengths)}q", self.n, *self.lengths)
        return b"".join([MAGIC, self.form, numbers, *map(raw_bytes, self.leaves)])

    def to_arrow(self) -> pyarrow.RecordBatch:
        """The state as a row of a pyarrow table, in the columns of `Aggregation.schema`; `Aggregation.state` reads it.

        >>> import torch, batchproof
        >>> plan = batchproof.plan(torch.mean, torch.randn(100))
        >>> plan.fold(torch.tensor([1.0, 5.0])).to_arrow().to_pydict()
        {'n': [2], 'leaf_0': [6.0]}
        """
        import pyarrow as pa

        numbers = {"n": self.n, **{f"length_{i}": length for i, length in enumerate(self.lengths)}}
        columns = {name: pa.array([number], pa.int64()) for name, number in numbers.items()}
        columns |= {f"leaf_{i}": _arrow_array(leaf) for i, leaf in enumerate(self.leaves)}
        return pa.RecordBatch.from_pydict(columns)


class Aggregation:
    """A function as fold, merge and finish: made by `plan`, for an engine that moves the states itself.

    It pickles without the example (with ``cloudpickle`` where the function lives in a notebook or ``__main__``), and
    nothing is derived again where it is loaded.
    """

    def __init__(self, stream: Stream, batch_dim: Dims = 0) -> None:
        self._stream = stream
        self.batch_dim = batch_dim
        self._folds = 0

    @property
    def plan(self) -> StatePlan:
        """What is kept, how it merges and the lines that it comes from; prints as a report."""
        return self._stream.state_plan

    @cached_property
    def form(self) -> bytes:
        """A print of what a state means: of the operations, the numbers in them, the centres and what is captured."""
        prints = (program_print(self.plan), centres_print(self.plan), shared_print(self._stream))
        return hashlib.sha256(" ".join(prints).encode()).digest()[:PRINT]

    # ------------------------------------------------------------------ the three functions

    def fold(self, *args: Any, **kwargs: Any) -> PartialState:
        """The state of a batch.

        Batches may have any number of samples, none included. On the first, second, fourth, eighth ... of them, a few
        of the samples are tried against the function itself: those of the example need not be like all others.

        Raises:
            BatchproofError: the batch is not like the example (dtypes, the sizes of a sample), or the state that was
                derived from the example does not give the function's value on this batch.
        """
        ready = self._stream.ready(args) if not kwargs and self._folds & (self._folds + 1) else None
        if ready is None:
            call = self._read(args, kwargs)
            if call is None:
                return self.empty()
            return self.fold_batch(call)
        self._folds += 1
        return self._state(*ready)

    def fold_batch(self, call: Batch) -> PartialState:
        """The state of a batch that was read."""
        call = self._stream.ordered(call)
        self._stream.check(call)
        if signature(call) not in self._stream.variants:
            raise BatchproofError(
                "a sample of this batch has another shape than one of the example: an engine's states are of one shape "
                "(pad to one length, or use batchproof.exact)"
            )
        if not self._folds & (self._folds + 1):
            self.try_on(call)
        self._folds += 1
        with torch.no_grad():
            return self._state(*self._stream.variant(call).fold(call))

    def try_on(self, call: Batch) -> None:
        """Hold the plan against the function on a few samples of a batch.

        Raises:
            Contradicted: they give different values.
        """
        reservoir = Reservoir()
        reservoir.take(call)
        recheck(self._stream.fn, self._stream.variants, reservoir.sample)

    def _state(self, values: Sequence[Tensor], lengths: Sequence[int], n: int) -> PartialState:
        slots = self._stream.slots
        assert slots is not None
        leaves = slots.packing.unpack(values)
        kept = tuple(value.to(leaf.dtype) for leaf, value in zip(self.plan.leaves, leaves, strict=True))
        return PartialState(kept, tuple(lengths), n, self.form)

    def empty(self) -> PartialState:
        """The state of no samples: merged with any other, it gives that one."""
        device = self.example.columns[0].device
        leaves = (leaf.merge.identity(leaf.state_shape, leaf.dtype, device) for leaf in self.plan.leaves)
        return PartialState(tuple(leaves), (0,) * len(self.plan.lengths), 0, self.form)

    def merge(self, states: Iterable[PartialState]) -> PartialState:
        """The state of all the samples that are in several states, in any order.

        Raises:
            BatchproofError: one of them is of another function, or of other numbers in it.
        """
        found = [state for state in states if self._ours(state).n]
        if len(found) < 2:
            return found[0] if found else self.empty()
        columns = zip(*(state.leaves for state in found), strict=True)
        leaves = [leaf.merge.join(parts) for leaf, parts in zip(self.plan.leaves, columns, strict=True)]
        lengths = [sum(column) for column in zip(*(state.lengths for state in found), strict=True)]
        return PartialState(tuple(leaves), tuple(lengths), sum(state.n for state in found), self.form)

    def finish(self, state: PartialState) -> Any:
        """The function's value on all samples of a state, in the type, dtype and shape that the function returns.

        Raises:
            BatchproofError: there are none; or on all samples together the function goes another way than on the
                example (a branch, a size).
        """
        if not self._ours(state).n:
            raise BatchproofError("finish before any data: no sample is in this state")
        return self._stream.value_of(list(state.leaves), list(state.lengths), state.n)

    def finish_wide(self, state: PartialState) -> Any:
        """What `finish` gives, in float64 where the function rounds to a narrower type at its end."""
        return self._stream.value_of(list(state.leaves), list(state.lengths), state.n, wide=True)

    @cached_property
    def of_groups(self) -> GroupFold:
        """What folds batches whose samples are of many groups, each group to a state of its own."""
        tensors, dims = tensors_of(self.example)
        return group_fold(self.plan, tensors, dims)

    # ------------------------------------------------------------------ states that travelled

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns of `PartialState.to_arrow`; the metadata of each leaf says how it merges and where it is from.

        >>> import torch, batchproof
        >>> plan = batchproof.plan(torch.mean, torch.randn(100))
        >>> plan.schema.names, plan.schema.types
        (['n', 'leaf_0'], [DataType(int64), DataType(double)])
        """
        import pyarrow as pa

        fields = [(leaf, _arrow_array(kept).type) for leaf, kept in zip(self._leaves, self.empty().leaves, strict=True)]
        counts = ["n", *(f"length_{i}" for i in range(len(self.plan.lengths)))]
        return pa.schema(
            [pa.field(name, pa.int64(), metadata={"merge": "sum"}) for name in counts]
            + [
                pa.field(f"leaf_{i}", kind, metadata={"merge": str(leaf.merge), "line": str(leaf.site)})
                for i, (leaf, kind) in enumerate(fields)
            ]
        )

    @property
    def _leaves(self) -> tuple[Leaf, ...]:
        return self.plan.leaves

    def state(self, data: bytes | pyarrow.RecordBatch | pyarrow.Table) -> PartialState:
        """A state from its bytes, or from a row of arrow; of a table with many rows, the merged state of all of them.

        Raises:
            BatchproofError: it is something else, or of another function.
        """
        if isinstance(data, (bytes, bytearray, memoryview)):
            return self._of_bytes(bytes(data))
        rows = data.to_pydict()
        names = [field.name for field in self.schema]
        missing = [name for name in names if name not in rows]
        if missing:
            raise BatchproofError(f"this is no state of {self!r}: it has no column {missing[0]}")
        return self.merge(
            PartialState(
                tuple(self._leaf(i, rows[f"leaf_{i}"][row]) for i in range(len(self._leaves))),
                tuple(rows[name][row] for name in names if name.startswith("length_")),
                rows["n"][row],
                self.form,
            )
            for row in range(data.num_rows)
        )

    def _leaf(self, number: int, value: Any) -> Tensor:
        leaf = self._leaves[number]
        kept = torch.tensor(value, dtype=leaf.dtype.to_real() if leaf.dtype.is_complex else leaf.dtype)
        if leaf.dtype.is_complex:
            kept = torch.view_as_complex(kept.reshape(-1, 2))
        return kept.reshape(leaf.state_shape).to(self.example.columns[0].device)

    def _of_bytes(self, data: bytes) -> PartialState:
        blank = self.empty()
        numbers = 1 + len(blank.lengths)
        start = len(MAGIC) + PRINT + 8 * numbers
        if not data.startswith(MAGIC) or len(data) != start + sum(leaf.nbytes for leaf in blank.leaves):
            raise BatchproofError(f"these {len(data):,} bytes are no state of {self!r}")
        n, *lengths = struct.unpack_from(f"<{numbers}q", data, len(MAGIC) + PRINT)
        leaves = []
        for leaf in blank.leaves:
            stop = start + leaf.nbytes
            leaves.append(of_raw_bytes(data[start:stop], leaf.dtype, leaf.shape).to(leaf.device))
            start = stop
        form = data[len(MAGIC) : len(MAGIC) + PRINT]
        return self._ours(PartialState(tuple(leaves), tuple(lengths), n, form))

    def _ours(self, state: PartialState) -> PartialState:
        if state.form != self.form:
            raise BatchproofError(
                f"this state is not of {self!r}: it is of another function, or of one whose numbers (a threshold, an "
                "exponent, a class weight) or example were others; make all states by one plan"
            )
        return state

    # ------------------------------------------------------------------ what it is made of

    @property
    def fn(self) -> Callable[..., Any]:
        """The function."""
        return self._stream.fn

    @property
    def example(self) -> Batch:
        """One sample, blank, with the arguments that all batches share."""
        assert self._stream.first is not None
        return self._stream.first

    @property
    def variants(self) -> dict[Any, Variant]:
        """The plan by the shape of samples."""
        return self._stream.variants

    def _read(self, args: Any, kwargs: Any) -> Batch | None:
        """A batch; None where it has no samples."""
        layout = self.example.layout
        if not kwargs and len(args) == len(layout.dims):
            sizes = {
                len(arg) if dim == 0 else arg.shape[dim]
                for arg, dim in zip(args, layout.dims, strict=True)
                if dim is not None and isinstance(arg, Tensor) and arg.ndim
            }
            if sizes == {0}:
                return None
        return read(self.fn, args, kwargs, self.batch_dim, layout)

    def __getstate__(self) -> dict[str, Any]:
        return {"fn": self.fn, "batch_dim": self.batch_dim, "plan": merging.save_plan(self._stream)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stream = merging.load_plan(Stream(state["fn"], "constant", 1), state["plan"])
        self.__init__(stream, state["batch_dim"])  # type: ignore[misc]

    def __repr__(self) -> str:
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        return f"<Aggregation {name}: {self.plan.nbytes:,} bytes of state>"


def _arrow_array(leaf: Tensor) -> Any:
    """One row: a number as it is, several as a list of one length, complex ones by their parts."""
    import pyarrow as pa

    plain = torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf
    values = pa.array(plain.detach().cpu().reshape(-1).numpy())
    return values if not plain.ndim else pa.FixedSizeListArray.from_arrays(values, math.prod(plain.shape))
