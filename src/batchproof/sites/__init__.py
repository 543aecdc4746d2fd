"""Where a script averages over batches, read off its syntax tree.  Knows ``ast`` and nothing of torch."""

from batchproof.sites.find import find
from batchproof.sites.site import Added, Average, Divisor, Loader, Loop, Phase, Quantity, Script, Site, Weight

__all__ = ["Added", "Average", "Divisor", "Loader", "Loop", "Phase", "Quantity", "Script", "Site", "Weight", "find"]
