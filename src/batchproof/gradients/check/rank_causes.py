"""Why the gradient of several ranks is not that of one process: each cause in words, with its remedy."""

from __future__ import annotations

from collections.abc import Sequence

from batchproof.explanation import Finding
from batchproof.gradients.check.causes import WEIGHTS, share, some, up_to
from batchproof.gradients.check.result import GradientCode, MicroBatchWeights
from batchproof.ground.text import listed


def world_size(world: int, *, is_larger: bool) -> Finding[GradientCode]:
    """Off by the number of ranks."""
    return Finding(
        "world-size",
        f"{'multiplied' if is_larger else 'divided'} by the number of ranks",
        f"the gradient is {'' if is_larger else '1/'}{world} {'times' if is_larger else 'of'} that of one process, and "
        f"there are {world} ranks",
        "average gradients over ranks instead of adding them, or leave out a factor of the world size"
        if is_larger
        else "DistributedDataParallel and fully_shard average over ranks: multiply a loss that is divided by the "
        "total of all ranks by the world size",
    )


def not_reduced(world: int) -> Finding[GradientCode]:
    """Every rank has its own gradient."""
    return Finding(
        "not-reduced",
        "never sent between ranks",
        f"each of {world} ranks ends with the gradient of its own samples",
        "run the wrapped model, not the module inside it; leave no_sync() for the last micro-batch's forward and "
        "backward pass; or all_reduce the gradients",
    )


def ranks_differ(apart: float) -> Finding[GradientCode]:
    """Ranks end with different gradients."""
    return Finding(
        "not-reduced",
        "ranks end with different gradients",
        f"the gradients of two ranks differ by {share(apart)}, and none is that of its own samples alone",
        "look for what changes gradients on one rank, after they were sent or instead of that",
    )


def own_denominators(factors: Sequence[float], fits: Sequence[str]) -> Finding[GradientCode]:
    """Each rank divides the same gradient by something of its own."""
    by = f" by its own {' or '.join(fits)}" if fits else ""
    return Finding(
        "rank-denominator",
        "a denominator of one rank",
        f"ranks end with gradients in one direction, {listed([f'{factor:.3g}' for factor in factors])} times that of "
        f"rank 0: each divides{by}",
        "add up the count over all ranks (all_reduce) and divide by that",
    )


def ranks_lost(lost: Sequence[int], world: int) -> Finding[GradientCode]:
    """The gradient of some ranks is not in the result."""
    return Finding(
        "not-reduced",
        "ranks whose samples do not count",
        f"of {world} ranks, nothing of {'rank' if len(lost) == 1 else 'ranks'} {some([str(rank) for rank in lost])} is "
        "in the gradient",
        "let every rank take part in every all_reduce, with its own gradient",
    )


def reduced_twice(world: int) -> Finding[GradientCode]:
    """Gradients were added up over ranks once too often."""
    return Finding(
        "reduced-twice",
        "reduced twice",
        f"gradients were added up over {world} ranks twice: the result is {world} times what all ranks' backward "
        "passes brought",
        "send gradients once: by the wrapper, or by an all_reduce of your own",
    )


def reduced_each_time(world: int) -> Finding[GradientCode]:
    """Gradients are added up over ranks after each micro-batch, the earlier ones again."""
    return Finding(
        "reduced-twice",
        "reduced after each micro-batch",
        f".grad is added up over ranks after each backward pass, so what was there before counts {world} times more "
        "each time",
        "reduce once, after the last micro-batch, or what each backward pass brought by itself",
    )


def mean_of_ranks(weights: MicroBatchWeights, apart: float, option: str = WEIGHTS) -> Finding[GradientCode]:
    """Each rank is right within itself; other weights of the ranks give the full gradient."""
    by = f"weighted by {' or by '.join(weights.fits)}" if weights.fits else "with other weights, which are below"
    divide = f"by the {weights.wanted or 'count'} of all ranks together"
    return Finding(
        "mean-of-rank-means",
        "a mean of the ranks' means",
        f"{by}, the ranks' gradients give that of all samples {up_to(weights)}; as they are weighted now it is off "
        f"by {share(apart)}",
        f"divide each rank's sum {divide}, and multiply by the world size where a wrapper averages over ranks"
        + ("" if weights.fits else f". {option} to see which count it is"),
    )
