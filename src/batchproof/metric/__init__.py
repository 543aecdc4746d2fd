"""A metric of all samples, from batches: reads a call, holds the state, merges it, saves it, gives its error bar."""

from batchproof.metric.exact import Exact, exact

__all__ = ["Exact", "exact"]
