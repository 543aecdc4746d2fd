"""From a function of a batch to its exact streaming form. Knows torch, and nothing else of batchproof."""

from batchproof.derive.pipeline import derive
from batchproof.derive.plan import Leaf, Plan, Verified
from batchproof.derive.site import Site

__all__ = ["Leaf", "Plan", "Site", "Verified", "derive"]
