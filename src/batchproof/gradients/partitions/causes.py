"""Why a loss depends on how its batch is cut: each cause in words, with its remedy."""

from __future__ import annotations

from collections.abc import Sequence

from batchproof.explanation import Finding
from batchproof.gradients.partitions.result import CutKind, PartitionCode
from batchproof.ground.place import Place
from batchproof.ground.text import listed

#: What each kind of cut is called in a sentence.
CUTS: dict[CutKind, str] = {
    "order": "the order of the samples",
    "micro-batch": "micro-batches",
    "uneven": "micro-batches of unequal sizes",
    "rank": "ranks",
    "padding": "padding",
    "packing": "packing",
}
#: What is known of each cause: its title, what happens, what to do.
CAUSES: dict[PartitionCode, tuple[str, str, str]] = {
    "own-tokens": (
        "each piece divides by its own tokens",
        "few tokens count as much as many: the mean of the pieces' means is not the mean over all tokens",
        "add the pieces, and divide by the tokens of all micro-batches and ranks (normalisers={{'...': 'tokens'}})",
    ),
    "own-samples": (
        "each piece divides by its own samples",
        "a small piece counts as much as a large one",
        "divide by the samples of the whole batch (normalisers={{'...': 'samples'}}), or cut it into equal pieces only",
    ),
    "own-groups": (
        "each piece divides by its own groups",
        "a piece of few groups counts as much as one of many",
        "divide by the groups of the whole batch (normalisers={{'...': 'groups'}}), or cut it into equal pieces only",
    ),
    "weights": (
        "the pieces count by the wrong weights",
        "the same pieces, weighted otherwise, give the loss on the whole batch; the weights are below",
        "divide by a number of the whole batch in place of one of the piece's own",
    ),
    "missing-division": (
        "never divided by the number of pieces",
        "{what} is {factor} times the whole batch's, and there are {factor} pieces",
        "divide by the number of micro-batches, or by a number of the whole batch in place of one of the piece's own",
    ),
    "divided-twice": (
        "divided by the number of pieces twice",
        "{what} is 1/{factor} of the whole batch's, and there are {factor} pieces",
        "divide by it once: in the loss, or where the pieces are put together",
    ),
    "adds": (
        "a sum, averaged over the pieces",
        "the loss adds up over samples, so that the average of {factor} pieces is 1/{factor} of the whole batch's",
        "divide by a number of the whole batch; or say combine='sum' and over_ranks='sum', if sums are taken",
    ),
    "ranks-averaged": (
        "averaged over ranks, after a division by a number of all ranks",
        "DDP and FSDP average gradients over ranks, so {what} is 1/{factor} of the whole batch's with {factor} ranks",
        "multiply the loss by the number of ranks (normalisers={{'...': 'ranks'}}), or say over_ranks='sum'",
    ),
    "rank-factor": (
        "multiplied by the number of ranks once too often",
        "{what} is {factor} times the whole batch's with {factor} ranks",
        "leave the factor out where the loss divides by a number of its own rank, or where ranks are added",
    ),
    "constant-factor": (
        "a constant factor",
        "{what} is {factor} times the whole batch's in every piece",
        "look for what multiplies or divides by it: a count that is given, or a number of pieces",
    ),
    "constant-term": (
        "a term that no sample enters",
        "the gradient is right, and the value is not: something is counted once for each piece",
        "add it once, outside of the loss of a piece",
    ),
    "couples": (
        "the loss compares the samples of a piece",
        "what a sample contributes depends on which others share its piece, so no weights of the pieces give the whole",
        "compute what they share (a mean, advantages) on the whole batch; if they belong together, pass groups=",
    ),
    "order": (
        "the order of the samples enters",
        "the same samples in another order give another loss",
        "if neighbours belong together, pass groups=; otherwise look for what counts positions in the batch",
    ),
    "padded-length": (
        "divided by the padded length",
        "{what} is {factor} times the whole batch's with another length of padding",
        "divide by the tokens that count, or by a constant such as the longest length that there may be",
    ),
    "enters": (
        "padding enters",
        "positions that do not count change the loss",
        "multiply by the mask before anything is added or compared over positions",
    ),
    "row-for-sequence": (
        "a packed row is taken for one sequence",
        "the loss averages over rows, and a packed row holds several sequences",
        "take the mean within each sequence by its boundaries (position ids, cu_seqlens), or do not pack",
    ),
    "undefined": (
        "undefined on a piece",
        "{what}",
        "give a piece that holds nothing a loss of 0, with its graph: clamp the denominator to 1",
    ),
    "unexplained": (
        "confirmed by measurement, no cause found",
        "{what} is another one than the whole batch's",
        "compare the gradient of one piece with the whole batch's by hand",
    ),
}


def finding(
    code: PartitionCode, cuts: Sequence[CutKind], how: str, place: Place | None = None, **words: str
) -> Finding[PartitionCode]:
    """A cause, the cuts that show it, and the first pieces that did."""
    title, what, remedy = CAUSES[code]
    shown = listed([CUTS[cut] for cut in cuts])
    told = what.format(**{"what": "the gradient", "factor": "", **words})
    return Finding(code, f"{title} ({shown})", f"{told} [{how}]", remedy.format(**words), place)
