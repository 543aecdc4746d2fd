"""From a function of a batch to its exact streaming form. Knows torch, and nothing else of batchproof."""

from batchproof.derive.contradiction import find_contradiction
from batchproof.derive.diverged import Diverged
from batchproof.derive.finish import Finisher, State
from batchproof.derive.finish_many import OneByOne, finish_many
from batchproof.derive.finish_sizes import finish_sizes
from batchproof.derive.fold_groups import GroupFold, StatesByGroup, group_fold
from batchproof.derive.fold_many import FoldMany, as_kept, fold_many
from batchproof.derive.fold_together import FoldTogether, can_join, fold_together
from batchproof.derive.gradient import Slope, slope
from batchproof.derive.groups import derive_groups, least_group, like
from batchproof.derive.kind import Kind
from batchproof.derive.loops import Loop
from batchproof.derive.merge import ROWS, SUM, Merge
from batchproof.derive.operators import POLYNOMIAL, SMOOTH, base_name
from batchproof.derive.pipeline import derive, program_of
from batchproof.derive.plan import Folding, Leaf, Plan, SamplesPlan, StatePlan, Verified, check_shapes
from batchproof.derive.plan_data import of_bytes, to_bytes, with_function
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.purity import OwnError, keep_inputs
from batchproof.derive.record import record
from batchproof.derive.recording import (
    WIDE,
    Free,
    Op,
    RandomFunction,
    Recording,
    Ref,
    Size,
    Unrecordable,
    leaves,
    shown_dtype,
)
from batchproof.derive.samples import (
    FEWEST_LARGE,
    FEWEST_ROWS,
    LARGE_ROW,
    MOST_BYTES,
    MOST_ROWS,
    TensorBatch,
    few,
)
from batchproof.derive.shapes import check_finishes, check_folds, nudge_state
from batchproof.derive.site import CallSite

__all__ = [
    "FEWEST_LARGE",
    "FEWEST_ROWS",
    "LARGE_ROW",
    "MOST_BYTES",
    "MOST_ROWS",
    "POLYNOMIAL",
    "ROWS",
    "SMOOTH",
    "SUM",
    "WIDE",
    "CallSite",
    "Diverged",
    "Finisher",
    "FoldMany",
    "FoldTogether",
    "Folding",
    "Free",
    "GroupFold",
    "Kind",
    "Leaf",
    "Loop",
    "Merge",
    "OneByOne",
    "Op",
    "OwnError",
    "Plan",
    "Program",
    "ProgramValue",
    "RandomFunction",
    "Recording",
    "Ref",
    "SamplesPlan",
    "Size",
    "Slope",
    "State",
    "StatePlan",
    "StatesByGroup",
    "TensorBatch",
    "Unrecordable",
    "Verified",
    "as_kept",
    "base_name",
    "can_join",
    "check_finishes",
    "check_folds",
    "check_shapes",
    "derive",
    "derive_groups",
    "few",
    "find_contradiction",
    "finish_many",
    "finish_sizes",
    "fold_many",
    "fold_together",
    "group_fold",
    "keep_inputs",
    "least_group",
    "leaves",
    "like",
    "nudge_state",
    "of_bytes",
    "program_of",
    "record",
    "shown_dtype",
    "slope",
    "to_bytes",
    "with_function",
]
