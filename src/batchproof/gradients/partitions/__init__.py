"""Does a loss depend on how its batch is cut: into micro-batches, over ranks, by padding, packing or order?"""

from batchproof.gradients.partitions.check_partitions import check_partitions
from batchproof.gradients.partitions.micro_batch_weights import micro_batch_weights
from batchproof.gradients.partitions.result import CutKind, CutReading, PartitionCheck

__all__ = ["CutKind", "CutReading", "PartitionCheck", "check_partitions", "micro_batch_weights"]
