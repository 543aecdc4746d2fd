"""Does a sample's output depend on its neighbours, its padding, its place, or on bits; and where does that begin?"""

from batchproof.explanation.rows.judge import RowFindings
from batchproof.explanation.rows.look import in_double_too, look_at_rows
from batchproof.explanation.rows.perturbations import Over, check_over
from batchproof.explanation.rows.sequences import parameters_of

__all__ = ["Over", "RowFindings", "check_over", "in_double_too", "look_at_rows", "parameters_of"]
