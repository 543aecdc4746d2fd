"""score: the exact value of functions on data of any size, for the whole and by groups."""

from batchproof.scoring.columns import Arguments, match_columns
from batchproof.scoring.source import Block, Piece, Source, open_source

__all__ = ["Arguments", "Block", "Piece", "Source", "match_columns", "open_source"]
