"""The reasons why a reported number depends on the batch size, in words: what happens, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from batchproof.explanation.result import Code, Direction, Finding
from batchproof.ground.place import Place


class Use(Enum):
    """What code a function with such a cause is replaced by."""

    NOTHING = auto()
    WEIGHTED = auto()
    ADDED = auto()
    EXACT = auto()


@dataclass(frozen=True)
class CauseText:
    """One reason, in general."""

    title: str
    what: str
    remedy: str
    harmless: bool = False
    use: Use = Use.EXACT


CAUSES: dict[Code, CauseText] = {
    "mean": CauseText(
        "a mean over samples",
        "each sample counts the same, in any batch",
        "weight each batch's value by its number of samples",
        harmless=True,
        use=Use.WEIGHTED,
    ),
    "sum": CauseText(
        "a sum over samples",
        "the value grows with the batch",
        "add the batches' values, and divide once by the number of samples",
        use=Use.ADDED,
    ),
    "divisor": CauseText(
        "divided by the batch size twice",
        "what is divided was a mean already, so the value shrinks as the batch grows",
        "leave one of the two divisions out",
    ),
    "nonlinear": CauseText(
        "a nonlinear function of a mean",
        "it is applied to each batch's mean",
        "average over all samples first, and apply the function once, at the end",
    ),
    "limit": CauseText(
        "clipped or bent in each batch",
        "a limit is applied to each batch's value, and not to that of all samples",
        "apply it once, at the end",
    ),
    "ratio": CauseText(
        "a ratio whose denominator comes from the data",
        "each batch divides by its own total, so a batch with a small total weighs too much",
        "add up numerators and denominators over batches, and divide once",
    ),
    "centred": CauseText(
        "centred on the batch",
        "samples are measured from their batch's mean, not from that of all",
        "keep sums that give the statistic of all samples, as exact does",
    ),
    "couples": CauseText(
        "every sample is compared with every other (B×B)",
        "the value of a sample depends on which others share its batch",
        "no average over batches repairs it: keep the batch size fixed, and report it with the number",
        use=Use.NOTHING,
    ),
    "broadcast": CauseText(
        "(B, 1) and (B,) broadcast to (B, B)",
        "every sample is paired with every other. Almost always a squeeze is missing",
        "give both the same shape: squeeze(1) or unsqueeze(1) one of them",
        use=Use.NOTHING,
    ),
    "branch": CauseText(
        "decides per batch",
        "a branch is taken from the batch's own values, so different batches are treated differently",
        "decide once before the batches, and pass the decision in",
    ),
    "constant-term": CauseText(
        "a term that does not depend on the data",
        "it is added once per batch, not once per sample",
        "add it once, after the batches",
    ),
    "undefined": CauseText(
        "undefined on small batches",
        "some batches give no number",
        "fold all batches into one state first",
    ),
    "order": CauseText(
        "depends on order or rank",
        "a sample's part in it depends on where the others of its batch lie",
        "rank all samples together",
    ),
    "extreme": CauseText(
        "the largest or smallest of the batch",
        "a small batch rarely holds the extreme sample",
        "take the extreme over the batches, not their mean",
    ),
    "random": CauseText(
        "draws random numbers",
        "two calls on the same samples differ",
        "switch the randomness off (eval mode, a fixed seed) to compare",
        use=Use.NOTHING,
    ),
    "state": CauseText(
        "keeps a state between calls",
        "two calls on the same samples differ, and no random numbers are drawn: a moving average, a step counter",
        "hold the state still to compare: pass it in, or explain the part that does not change it",
        use=Use.NOTHING,
    ),
    "size": CauseText(
        "the batch size itself enters",
        "len(batch) stands in the value besides counting its samples, so it changes with the batch size alone",
        "put a fixed number in its place, or report the number at one batch size",
    ),
    "mean-and-sum": CauseText(
        "a mean plus a sum",
        "a mean is the same for any batch size and a sum grows with it, so no weights give both",
        "divide the sum by the number of samples too",
    ),
    "groups": CauseText(
        "groups that must stay whole",
        "its samples belong together, and a batch that splits a group has no value",
        "batch sizes that hold whole groups, and a sampler that keeps each together",
        harmless=True,
    ),
    "independent": CauseText(
        "samples are independent",
        "replacing one sample of a batch leaves the outputs of the others as they were",
        "",
        harmless=True,
    ),
    "accumulated": CauseText(
        "accumulated, then computed",
        "its state adds up over the batches",
        "",
        harmless=True,
    ),
    "per-batch": CauseText(
        "folds values of batches, not of samples",
        "its state depends on how many updates the samples came in",
        "add up numerators and denominators in update(), and divide in compute()",
    ),
    "merge": CauseText(
        "merges copies as if they had seen the same",
        "merged from uneven copies it is another number",
        "keep counts beside the sums, and add both when merging",
    ),
    "rounding": CauseText(
        "rounding of its narrow accumulators",
        "the same metric in double precision does not depend on the batches",
        "metric.set_dtype(torch.float64), or batchproof.exact",
    ),
    "padding": CauseText(
        "padding changes a sample's output",
        "what it gives for a sample depends on how far that is padded",
        "let the mask keep padding out",
        use=Use.NOTHING,
    ),
    "packing": CauseText(
        "samples packed into one row see each other",
        "what it gives for a sample depends on what is packed beside it",
        "give a mask with a block for each sample, or one sample in a row",
        use=Use.NOTHING,
    ),
    "unexplained": CauseText(
        "confirmed by measurement, no single line found",
        "averaging over batches does not give the value on all samples",
        "keep the samples, and call it once on all of them",
    ),
}  # fmt: skip


def finding(
    code: Code,
    place: Place | None = None,
    *,
    title: str = "",
    what: str = "",
    remedy: str = "",
    direction: Direction | None = None,
    harmless: bool | None = None,
) -> Finding[Code]:
    """A finding in the catalogue's words, or in words of its own."""
    cause = CAUSES[code]
    return Finding(
        code=code,
        title=title or cause.title,
        what=what or cause.what,
        remedy=remedy or cause.remedy,
        place=place,
        direction=direction,
        harmless=cause.harmless if harmless is None else harmless,
    )
