"""A metric of all samples, from batches: reads a call, holds the state, merges it, saves it, gives its error bar."""

from batchproof.metric.aggregation import Aggregation, PartialState, plan, plan_from
from batchproof.metric.distributed import moved, on_cpu, reduce
from batchproof.metric.exact import Exact, exact
from batchproof.metric.fast_path import Variant, fold_by, no_autocast, version
from batchproof.metric.grouped_state import GroupedState
from batchproof.metric.jackknife import standard_error
from batchproof.metric.order import NOTE
from batchproof.metric.stream import Stream, typed

__all__ = [
    "NOTE",
    "Aggregation",
    "Exact",
    "GroupedState",
    "PartialState",
    "Stream",
    "Variant",
    "exact",
    "fold_by",
    "moved",
    "no_autocast",
    "on_cpu",
    "plan",
    "plan_from",
    "reduce",
    "standard_error",
    "typed",
    "version",
]
