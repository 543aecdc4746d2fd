"""explain: does this number depend on the batch size, why, at which line, and by how much?"""

from batchproof.explanation.aggregation import aggregation, counts_of, is_share, share_of
from batchproof.explanation.explain import explain
from batchproof.explanation.groups import Units, units_of
from batchproof.explanation.guess import guess_samples, role_of
from batchproof.explanation.measure import Progress
from batchproof.explanation.positions import Positions, find_positions
from batchproof.explanation.result import (
    Curve,
    Explanation,
    Finding,
    Given,
    Keep,
    LossAggregation,
    ModuleGap,
    Reading,
    RowTrial,
)
from batchproof.explanation.rows import Over
from batchproof.explanation.samples import Samples, gather, together
from batchproof.explanation.slopes import LossSlope, SlopeMeasure, settled, slope_measure, units_found
from batchproof.explanation.structure import harmful_place
from batchproof.explanation.usage import exact_lines
from batchproof.ground.place import Place

__all__ = [
    "Curve",
    "Explanation",
    "Finding",
    "Given",
    "Keep",
    "LossAggregation",
    "LossSlope",
    "ModuleGap",
    "Over",
    "Place",
    "Positions",
    "Progress",
    "Reading",
    "RowTrial",
    "Samples",
    "SlopeMeasure",
    "Units",
    "aggregation",
    "counts_of",
    "exact_lines",
    "explain",
    "find_positions",
    "gather",
    "guess_samples",
    "harmful_place",
    "is_share",
    "role_of",
    "settled",
    "share_of",
    "slope_measure",
    "together",
    "units_found",
    "units_of",
]
