"""Why an accumulated gradient is not that of the whole batch: each cause in words, with its remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from batchproof.explanation import Finding
from batchproof.gradients.check.result import GradientCode, MicroBatchWeights
from batchproof.ground.text import listed

#: What to do about micro-batches that should not count alike, or do not add up at all.
ACCUMULATE = "batchproof.accumulate(loss_fn, forward, micro_batches) gives the whole batch's gradient"
MOST_NAMES = 4
#: What is left of a gradient by less than this share is explained exactly.
EXACT = 1e-6
#: How the caller says what is counted in each micro-batch; a driver counts in the batches that it makes.
WEIGHTS = "Pass weights={'tokens': [...]}"
COUNT_OF_STEP = "Pass count=, a function of a micro-batch such as lambda part: {'tokens': ...},"
COUNT = "Pass count=, a function of a batch such as lambda batch: {'tokens': ...},"


def missing_division(passes: str, beside: str = "") -> Finding[GradientCode]:
    """Every gradient is as many times too large as there were backward passes."""
    return Finding(
        "missing-division",
        "never divided by the number of micro-batches",
        f"the accumulated gradient is {passes} times the full one, once for each backward pass{beside}",
        "divide the loss of each micro-batch by the number of micro-batches before backward()",
    )


def divided_twice(passes: str, beside: str = "") -> Finding[GradientCode]:
    """Every gradient is as many times too small as there were backward passes."""
    return Finding(
        "divided-twice",
        "divided twice by the number of micro-batches",
        f"the accumulated gradient is 1/{passes} of the full one, and there were {passes} backward passes{beside}",
        "divide by the number of micro-batches once: in the loss, or in the trainer, not in both",
    )


def missing_division_by_filled(filled: Sequence[int]) -> Finding[GradientCode]:
    """Every gradient is too large by the number of backward passes that bring something."""
    return Finding(
        "missing-division",
        "never divided by the number of micro-batches",
        f"the accumulated gradient is {_times_in(filled)}, once for each backward pass that brings something",
        "divide the loss by what that of the whole batch divides by, such as the number of labels; by the number of "
        "micro-batches the empty ones would count too",
    )


def constant_factor(ratios: Sequence[float], equals: Sequence[str]) -> Finding[GradientCode]:
    """Every gradient is off by one factor, which may equal a number that was counted."""
    which = f"equals {' and '.join(equals)}" if equals else "equals no number that was counted here"
    remedy = (
        f"look for what multiplies or divides by {equals[0]}"
        if equals
        else "look for what scales the loss in one of the two runs only: a loss scaler, clipping, a weight"
    )
    return Finding(
        "constant-factor",
        "a constant factor",
        f"every parameter's gradient is {_times_in(ratios)}, in the same direction; {times(ratios[0], bare=True)} "
        f"{which}",
        remedy,
    )


def _times_in(ratios: Sequence[float]) -> str:
    """``3 times the full one``, of several windows ``3 times the full one (at other optimizer steps 4 and 2)``."""
    _, *others = dict.fromkeys(times(ratio, bare=True) for ratio in ratios)
    return f"{times(ratios[0])} the full one" + (f" (at other optimizer steps {some(others)})" if others else "")


def empty_micro_batches(filled: int, passes: int, when: str = "") -> Finding[GradientCode]:
    """Micro-batches that bring no gradient are counted in the mean."""
    return Finding(
        "empty-micro-batches",
        "micro-batches without a gradient count in the mean",
        f"{passes - filled} of {passes} micro-batches bring a gradient of 0, and {when}the accumulated gradient is "
        f"{filled}/{passes} of the full one",
        f"divide by what the loss of the whole batch divides by, such as the number of labels; {ACCUMULATE}",
    )


def clipped(size: float, which: str) -> Finding[GradientCode]:
    """One of the gradients has a round norm: it was clipped."""
    return Finding(
        "clipped",
        "clipped",
        f"the {which} gradient has the right direction and a norm of {size:g}, as clipping to {size:g} leaves it",
        "compare gradients before they are clipped",
    )


def ragged(last: int, configured: int) -> Finding[GradientCode]:
    """The short last window is divided by the micro-batches of a full one."""
    return Finding(
        "ragged-last-window",
        "a short last window, divided as if it were full",
        f"the last optimizer step has {last} of {configured} micro-batches and is divided by {configured}: its "
        f"gradient is {last}/{configured} of what it should be",
        "divide by the number of micro-batches that the window really has, or drop the last window",
    )


def some_parameters(names: Sequence[str], tied: Sequence[str], what: str) -> Finding[GradientCode]:
    """A few parameters are off, and all others are right."""
    listed = some(names)
    if tied:
        return Finding(
            "shared-parameter",
            "a shared parameter",
            f"{listed} alone {_is(names)} off, {what}; it is shared by {some(tied)}",
            "treat a shared parameter once: where gradients are scaled by name, each of its names scales it again",
        )
    return Finding(
        "one-parameter" if len(names) == 1 else "some-parameters",
        "one parameter" if len(names) == 1 else "some parameters",
        f"{listed} alone {_is(names)} off, {what}; all others are right",
        f"look at where {names[0]} enters: a parameter or a penalty inside the loss is met once per micro-batch",
    )


def mean_of_means(
    weights: MicroBatchWeights, apart: float, when: str = "", option: str = WEIGHTS
) -> Finding[GradientCode]:
    """Other weights of the micro-batches give the full gradient."""
    if not weights.fits:
        return Finding(
            "mean-of-means",
            "micro-batches count by the wrong weights",
            f"the same micro-batch gradients, weighted otherwise, give the full gradient {up_to(weights)}; the weights "
            "are below",
            f"weight each micro-batch by what its loss divides by: samples, tokens, the sum of class weights. {option} "
            "to see which it is",
        )
    return Finding(
        "mean-of-means",
        "a mean of the micro-batches' means",
        f"weighted by {' or by '.join(weights.fits)}, the same micro-batch gradients give the full gradient "
        f"{up_to(weights)}; as they are weighted now it is {when}off by {share(apart)}",
        f"divide the sum of each micro-batch's loss by the {weights.wanted} of all micro-batches together; "
        f"{ACCUMULATE}",
    )


TermIs = Literal["right", "added", "weighted"]


class TermSays(NamedTuple):
    """What was found of one term of the loss: its number and name, what it is, and by which counts it is right."""

    number: int
    name: str
    says: TermIs
    fits: str


def two_denominators(terms: Sequence[TermSays]) -> Finding[GradientCode]:
    """Each term of the loss is right by weights of its own."""
    said = []
    for term in terms:
        how = "is right as it is" if term.says != "weighted" else f"is right weighted by {term.fits or 'others'}"
        said.append(f"term {term.number} ({term.name}) {how}")
    return Finding(
        "two-denominators",
        "terms that divide by different counts",
        f"the loss is a sum of {len(terms)} terms, and no weights of whole micro-batches are right for all: "
        + ", ".join(said),
        "divide each term's sum over all micro-batches by its own total count",
    )


def term_added(terms: Sequence[TermSays], passes: int) -> Finding[GradientCode]:
    """A term that does not depend on the micro-batch is added undivided by each of them."""
    which = listed([f"term {term.number} ({term.name})" for term in terms])
    return Finding(
        "term-added-again",
        "a penalty that is added for each micro-batch",
        f"{which} of the loss {'brings' if len(terms) == 1 else 'bring'} the same gradient in each of {passes} "
        f"backward passes, undivided: {'it counts' if len(terms) == 1 else 'they count'} {passes} times",
        "divide a penalty or an auxiliary loss by the number of micro-batches too, or add it once",
    )


def fresh_masks(apart: float) -> Finding[GradientCode]:
    """The pass with a graph draws other dropout than the one without, whose outputs it uses."""
    return Finding(
        "fresh-masks",
        "dropout that differs between the two passes",
        "the same samples went through the model without a graph and with one, and came out differently: the "
        f"gradient is of other outputs than the loss was made from. Off by {share(apart)} here; right without dropout",
        "restore the random state before the second forward pass of each micro-batch; batchproof.accumulate does",
    )


def rounding(apart: float, left: float) -> Finding[GradientCode]:
    """In float64 nothing of the difference is left."""
    return Finding(
        "rounding",
        "rounding",
        f"with the model in float64 the two gradients differ by {share(left)}; as it is, by {share(apart)}",
        "nothing, if that is accurate enough: otherwise accumulate in float32 or wider",
    )


def up_to(weights: MicroBatchWeights) -> str:
    """How well weights explain a gradient, in words."""
    return "exactly" if weights.residual < EXACT else f"up to {share(weights.residual)}"


def coupled(apart: float, was_weighed: bool) -> Finding[GradientCode]:
    """No weights of the micro-batches give the full gradient, or it could not be told."""
    if not was_weighed:
        return Finding(
            "another-gradient",
            "another gradient",
            f"it points elsewhere, and is off by {share(apart)}; by which weights the micro-batches would be right "
            "could not be told from their gradients",
            "check with more parameters than micro-batches, and with one backward pass for each micro-batch",
        )
    return Finding(
        "coupled",
        "more than a question of weights",
        f"no weights of the micro-batches give the full gradient; accumulated as they are, it is off by {share(apart)}",
        ACCUMULATE + ", if the loss couples the samples of a batch",
    )


def batch_norm(names: Sequence[str], left: str = "the two gradients are equal") -> Finding[GradientCode]:
    """In evaluation mode of BatchNorm the gradients are equal, or what is left has another cause."""
    return Finding(
        "batch-norm",
        "BatchNorm in training mode",
        f"{some(names)} {'normalises' if len(names) == 1 else 'normalise'} by the statistics of the micro-batch; in "
        f"evaluation mode {left}",
        "use GroupNorm or LayerNorm, freeze the statistics with eval(), or accept it: no accumulation is exact there",
    )


def dropout(apart: float, noise: float) -> Finding[GradientCode]:
    """Without dropout the gradients are equal."""
    return Finding(
        "random-state",
        "random numbers: dropout",
        f"without dropout the two gradients are equal; with it they differ by {share(apart)}, and the full gradient "
        f"differs from itself by {share(noise)} with other random numbers",
        "nothing: the accumulation is right. Switch dropout off to compare",
    )


def random(apart: float, noise: float, is_off: bool = False) -> Finding[GradientCode]:
    """A gradient differs from itself with other random numbers."""
    found_off = "; the dropout that could be found in the model is off" if is_off else ""
    return Finding(
        "random-state",
        "random numbers",
        f"a gradient differs from itself by {share(noise)} with other random numbers, and the accumulated one from the "
        f"full one by {share(apart)}{found_off}",
        "switch off what is random (dropout, augmentation, sampled negatives) and check again",
    )


def nondeterministic(apart: float, noise: float) -> Finding[GradientCode]:
    """Two runs from one random state give different gradients."""
    return Finding(
        "nondeterministic",
        "nondeterministic",
        f"two runs of the whole batch from the same random state differ by {share(noise)}, the accumulated gradient by "
        f"{share(apart)}",
        "make the run repeatable: a data loader that shuffles, a counter that goes on, "
        "torch.use_deterministic_algorithms(True)",
    )


def missing_gradient(names: Sequence[str], run: str) -> Finding[GradientCode]:
    """A parameter has a gradient in one of the runs only."""
    return Finding(
        "missing-gradient",
        "no gradient in one of the runs",
        f"{some(names)} {_has(names)} no gradient in the {run} run, and {_has(names)} one in the other",
        "look for a detach, a no_grad, a frozen parameter, or a branch that only one of the runs takes",
    )


def not_finite(names: Sequence[str], run: str) -> Finding[GradientCode]:
    """A gradient is infinite or NaN."""
    return Finding(
        "non-finite",
        "not finite",
        f"the gradient of {some(names)} is infinite or NaN {run}",
        "find where it comes from with torch.autograd.set_detect_anomaly(True); a mean over no labels is 0 / 0",
    )


def times(ratio: float, bare: bool = False) -> str:
    """``4 times``, ``1/4 of``, ``-0.37 times``; only the number if ``bare``."""
    inverse = 1 / ratio if ratio else math.inf
    if round(ratio) == 1:
        return f"{ratio:.6g}" + ("" if bare else " times")
    if 0 < ratio < 1 and abs(inverse - round(inverse)) < 1e-3 * inverse:
        return f"1/{round(inverse):,}" + ("" if bare else " of")
    near = round(ratio)
    text = f"{near:,}" if near and abs(ratio - near) < 1e-3 * abs(ratio) else f"{ratio:.4g}"
    return text + ("" if bare else " times")


def share(part: float) -> str:
    """``12.3%``; a tiny one in powers of ten."""
    if not math.isfinite(part):
        return "more than can be said"
    if part >= 10:
        return f"{part:,.0f} times its size"
    return f"{part:.1%}" if part >= 1e-3 else f"{part:.0e} of its size"


def some(names: Sequence[str]) -> str:
    """``a, b, c and 12 more``."""
    if len(names) <= MOST_NAMES:
        return listed(names)
    return f"{', '.join(names[: MOST_NAMES - 1])} and {len(names) - MOST_NAMES + 1} more"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
