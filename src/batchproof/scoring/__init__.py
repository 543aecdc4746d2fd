"""score: the exact value of a function on a data set of any size, for the whole and by group."""

from batchproof.scoring.result import Averaged, GroupScore, Number, Scores
from batchproof.scoring.score import score

__all__ = ["Averaged", "GroupScore", "Number", "Scores", "score"]
