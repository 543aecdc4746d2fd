"""A script at several batch sizes, and the difference of what it reports split by cause."""

from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import Comparison
from batchproof.scripts.compare.scheduler import BLANK

__all__ = ["BLANK", "Comparison", "compare"]
