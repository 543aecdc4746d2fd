"""The plan, tried once more at the end: on a few samples of the whole stream, not only on its first ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from batchproof.derive import TensorBatch, find_contradiction
from batchproof.errors import BatchproofError
from batchproof.ground.batch import by_shape, join, signature, tensors_of
from batchproof.ground.isolation import quiet
from batchproof.metric.fast_path import Variant, no_autocast
from batchproof.metric.padding import leaks
from batchproof.metric.reservoir import Sample


class Contradicted(BatchproofError):
    """On samples that came later the plan gives another value than the function."""


def recheck(fn: Callable[..., Any], variants: dict[Any, Variant], sample: Sample) -> None:
    """Hold plans against the function they were derived from.

    Args:
        fn: the function.
        variants: its plans, by the shape of samples.
        sample: of the stream.

    Raises:
        Contradicted: they give different values.
    """
    groups = by_shape(sample.rows)
    if not groups or len(groups[0]) < 2:
        return
    padded = leaks(fn, sample.rows)
    if padded is not None:
        raise Contradicted(
            "batches came padded to different lengths, and padding enters the value: on some samples it is "
            f"{padded[0]:.6g}, and {padded[1]:.6g} with less padding; pad all to one length, or mask what was added"
        )
    call = join(groups[0])
    variant = variants.get(signature(call))
    if variant is None or not call.all_tensors():
        return
    tensors, dims = tensors_of(call)
    generator = torch.Generator().manual_seed(sample.n)
    with torch.inference_mode(False), torch.no_grad(), quiet(fn), no_autocast(tensors[0]):
        found = find_contradiction(variant.plan, TensorBatch(tensors, dims), generator)
    if found is not None:
        raise Contradicted(
            f"the state derived from the first samples does not give the function's value on later ones: on {call.n} "
            f"samples drawn from all {sample.n} it gives {found[0]:.6g}, the function {found[1]:.6g}; use state='rows' "
            "to keep the samples"
        )
