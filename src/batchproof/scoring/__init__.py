"""score: the exact value of a function on data of any size, for the whole and by group."""

from batchproof.scoring.blocks import Block, Piece, Source
from batchproof.scoring.columns import match_columns
from batchproof.scoring.result import AverageOfParts, GroupScore, Number, Scores
from batchproof.scoring.score import score
from batchproof.scoring.source import open_source

__all__ = [
    "AverageOfParts", "Block", "GroupScore", "Number", "Piece", "Scores", "Source", "match_columns", "open_source",
    "score",
]  # fmt: skip
