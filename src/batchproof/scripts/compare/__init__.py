"""A script at several batch sizes, and the difference of what it reports split by cause."""

from batchproof.scripts.compare.blank import BLANK, refuse_misspelt
from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import Comparison

__all__ = ["BLANK", "Comparison", "compare", "refuse_misspelt"]
