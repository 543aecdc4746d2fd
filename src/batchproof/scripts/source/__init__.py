"""Where a script averages over batches, read off its syntax tree.  Knows ``ast`` and nothing of torch."""

from batchproof.scripts.source.find import find
from batchproof.scripts.source.name_tables import is_torch_loss
from batchproof.scripts.source.site import (
    Added,
    Average,
    Divisor,
    Doubt,
    Loader,
    Loop,
    Phase,
    Quantity,
    Script,
    Site,
    Topic,
    Weight,
)

__all__ = [
    "Added",
    "Average",
    "Divisor",
    "Doubt",
    "Loader",
    "Loop",
    "Phase",
    "Quantity",
    "Script",
    "Site",
    "Topic",
    "Weight",
    "find",
    "is_torch_loss",
]
