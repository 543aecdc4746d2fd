"""Where a script averages over batches, read off its syntax tree.  Knows ``ast`` and nothing of torch."""

from batchproof.scripts.source.find import find
from batchproof.scripts.source.index import callee_of, last_word
from batchproof.scripts.source.name_tables import NONLINEAR_STEPS, by_name, is_torch_loss
from batchproof.scripts.source.site import (
    Added,
    Average,
    AverageSite,
    Divisor,
    EpochLoop,
    Loader,
    Phase,
    Quantity,
    Script,
    Suspicion,
    Topic,
    Weight,
)

__all__ = [
    "NONLINEAR_STEPS",
    "Added",
    "Average",
    "AverageSite",
    "Divisor",
    "EpochLoop",
    "Loader",
    "Phase",
    "Quantity",
    "Script",
    "Suspicion",
    "Topic",
    "Weight",
    "by_name",
    "callee_of",
    "find",
    "is_torch_loss",
    "last_word",
]
