"""A metric of all samples, from batches: reads a call, holds the state, merges it, saves it, gives its error bar."""

from batchproof.ground.tensors import version
from batchproof.metric.aggregation import Aggregation, PartialState, plan, plan_from
from batchproof.metric.distributed import moved, on_cpu, reduce
from batchproof.metric.exact import Exact, exact
from batchproof.metric.fast_path import Variant, fold_by, no_autocast
from batchproof.metric.grouped_state import GroupedState
from batchproof.metric.jackknife import delete_group_errors, standard_error
from batchproof.metric.many import ExactMany
from batchproof.metric.order import NOTE
from batchproof.metric.per_sample import mean_of_each, per_sample
from batchproof.metric.recheck import recheck
from batchproof.metric.reservoir import NOTHING, Sample, unpacked
from batchproof.metric.stream import Stream, typed

__all__ = [
    "NOTE",
    "NOTHING",
    "Aggregation",
    "Exact",
    "ExactMany",
    "GroupedState",
    "PartialState",
    "Sample",
    "Stream",
    "Variant",
    "delete_group_errors",
    "exact",
    "fold_by",
    "mean_of_each",
    "moved",
    "no_autocast",
    "on_cpu",
    "per_sample",
    "plan",
    "plan_from",
    "recheck",
    "reduce",
    "standard_error",
    "typed",
    "unpacked",
    "version",
]
