"""From a function of a batch to its exact streaming form. Knows torch, and nothing else of batchproof."""

from batchproof.derive.centre import Centre, Centred
from batchproof.derive.cut import ancestors
from batchproof.derive.evaluate import result_of
from batchproof.derive.finish import Diverged, Finisher, State
from batchproof.derive.finish_many import OneByOne, finish_many
from batchproof.derive.fold import build
from batchproof.derive.fold_many import FoldMany, as_kept, fold_many
from batchproof.derive.gradient import Slope, slope
from batchproof.derive.operators import POLYNOMIAL, SMOOTH, base_name
from batchproof.derive.pipeline import derive, like, program_of
from batchproof.derive.plan import Leaf, Plan, Verified
from batchproof.derive.program import Program, Value
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
    widen,
)
from batchproof.derive.samples import FEWEST_LARGE, FEWEST_ROWS, LARGE_ROW, MOST_BYTES, MOST_ROWS, Inputs, few, ragged
from batchproof.derive.site import Site
from batchproof.derive.verify import join, joined, merge

__all__ = [
    "FEWEST_LARGE",
    "FEWEST_ROWS",
    "LARGE_ROW",
    "MOST_BYTES",
    "MOST_ROWS",
    "POLYNOMIAL",
    "SMOOTH",
    "WIDE",
    "Centre",
    "Centred",
    "Diverged",
    "Finisher",
    "FoldMany",
    "Free",
    "Inputs",
    "Leaf",
    "OneByOne",
    "Op",
    "OwnError",
    "Plan",
    "Program",
    "RandomFunction",
    "Recording",
    "Ref",
    "Site",
    "Size",
    "Slope",
    "State",
    "Unrecordable",
    "Value",
    "Verified",
    "ancestors",
    "as_kept",
    "base_name",
    "build",
    "derive",
    "few",
    "finish_many",
    "fold_many",
    "join",
    "joined",
    "keep_inputs",
    "leaves",
    "like",
    "merge",
    "program_of",
    "ragged",
    "record",
    "result_of",
    "shown_dtype",
    "slope",
    "widen",
]
