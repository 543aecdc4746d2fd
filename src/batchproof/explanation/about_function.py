"""A report on a function of a batch: measured, then explained from its recorded program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.explanation.about_model import finding_of
from batchproof.explanation.aggregation import aggregation_of
from batchproof.explanation.functions import FunctionMeasurement, also_elsewhere, measure_function, picked, splits_alike
from batchproof.explanation.groups import units_in
from batchproof.explanation.measure import Progress, Sizes
from batchproof.explanation.models import find_meeting
from batchproof.explanation.python_numbers import python_cause
from batchproof.explanation.result import Code, Explanation, Finding, LossAggregation, Subject
from batchproof.explanation.samples import Grouping, Samples
from batchproof.explanation.structure import Structure, structure
from batchproof.explanation.usage import usage
from batchproof.explanation.verdict import BENT, conclude
from batchproof.metric import NOTE
from batchproof.report.numbers import decimals_for, number

#: What is said of groups: whether the caller named them, and whether batches that split some say the same.
GROUPS = {
    (False, False): "it takes {}, and has no value on a batch that splits one",
    (True, False): "the samples are {} as given, and batches that split one give another value, or none",
    (True, True): "the samples are {} as given, and batches that split one say the same: it does not need whole ones",
}
#: The aggregation is told by so many samples.
MOST_SAMPLES = 48
#: A batch of images has channels, height and width for each of them; a smaller side is that of a feature.
LEAST_DIMS, LEAST_SIDE = 4, 8


def about_function(
    subject: Subject,
    samples: Samples,
    sizes: Sizes,
    seed: int,
    progress: Progress | None,
    chosen: Sequence[bool] | None = None,
    grouping: Grouping | None = None,
) -> Explanation:
    """Measure first: what the samples show needs no theory.  The program then says why.

    Args:
        subject: the function.
        samples: what it is called with.
        sizes: of batches.
        seed: for the shuffle, and before each call.
        progress: told of each size.
        chosen: for each numeric leaf of its result, whether it is looked at; all are if None.
        grouping: how samples belong together, where the caller says it.
    """
    target = subject.target if chosen is None else picked(subject.target, chosen)
    measured = measure_function(target, samples, sizes, seed, progress, grouping)
    if progress is not None:
        progress("deriving the exact form", 0, 1)
    worst = measured.outputs[measured.worst]
    found = structure(target, measured.samples, worst.position)
    doubted = measured.behaviour != "other" and any(not cause.harmless for cause in found.causes)
    confirmed = doubted and also_elsewhere(target, measured, seed)
    causes = [*found.causes, *_beyond_the_program(target, measured, found, worst.path, seed)]
    first = next((cause.code for cause in causes if not cause.harmless), "unexplained")
    bend = found.bend(measured.worst) if measured.behaviour == "other" and first in BENT else None
    named = None if measured.unsteady else _aggregation(target, samples, measured, seed)
    needless = grouping is not None and splits_alike(target, samples, measured, seed)
    conclusion = conclude(
        subject, measured, causes, found.proved, confirmed, bend, GROUPS[grouping is not None, needless]
    )
    return Explanation(
        target=subject.title,
        kind="function",
        is_safe=conclusion.is_safe,
        verdict=conclusion.verdict,
        headline=conclusion.headline,
        findings=conclusion.findings,
        place=subject.place,
        curve=None if measured.unsteady else measured.curve(),
        # of groups exact takes most that stand side by side, and no halves: what it keeps is its own to say
        keep=None if conclusion.verdict == "broadcast" or measured.samples.grouping.size > 1 else found.keep,
        use=usage(subject, samples, worst, conclusion.verdict, refused=found.refused),
        inputs=subject.inputs,
        asked=subject.asked,
        marked=subject.marked,
        notes=(*_notes(measured, conclusion.verdict, found), *([] if named is None else [str(named)])),
        aggregation=named,
    )


def _aggregation(
    target: Callable[..., Any], samples: Samples, measured: FunctionMeasurement, seed: int
) -> LossAggregation | None:
    """How a loss makes one number of its samples' tokens, tried on a few of them."""
    grouping = measured.samples.grouping
    few = samples.first(min(samples.n, MOST_SAMPLES) // grouping.size * grouping.size)
    groups = units_in(grouping, few.n) if grouping.size > 1 and not grouping.in_blocks else None
    return aggregation_of(target, few, seed, groups)


def _notes(measured: FunctionMeasurement, verdict: Code, found: Structure) -> tuple[str, ...]:
    if measured.unsteady:
        return ()
    return (*_on_order(measured, verdict), *_on_images(measured, verdict), *found.notes)


def _on_images(measured: FunctionMeasurement, verdict: Code) -> tuple[str, ...]:
    """That scores are often averaged over images, where samples have the shape of images and each has a value alone."""
    shapes = [
        _shape_of_image(leaf, dim) for leaf, dim in zip(measured.samples.leaves, measured.samples.dims, strict=True)
    ]
    about = measured.curve()
    alone = next((reading for reading in about.readings if reading.size == 1), None)
    if verdict not in BENT or alone is None or alone.undefined or not any(shapes):
        return ()
    gap = abs(about.exact - alone.mean)
    decimals = max(decimals_for([about.exact, alone.mean], 4), decimals_for([gap], 2) if gap else 0)
    one, all_at_once = number(alone.mean, decimals), number(about.exact, decimals)
    note = (
        f"each sample has the shape of an image ({next(filter(None, shapes))}). The average over images, {one}, is "
        f"another quantity than the value on all of them at once, {all_at_once}. Both are in use: PSNR, SSIM and Dice "
        "are often averaged over images. Say which of the two is reported"
    )
    return (note,)


def _shape_of_image(leaf: Any, dim: int | None) -> str:
    """Of a tensor whose samples are pictures, with channels in front or behind: ``3×32×32``; empty for any other."""
    if dim is None or not isinstance(leaf, torch.Tensor) or leaf.ndim < LEAST_DIMS:
        return ""
    sizes = [size for at, size in enumerate(leaf.shape) if at != dim % leaf.ndim]
    return "×".join(map(str, sizes)) if sorted(sizes)[-2] >= LEAST_SIDE else ""


def _beyond_the_program(
    target: Callable[..., Any], measured: FunctionMeasurement, found: Structure, path: str, seed: int
) -> list[Finding[Code]]:
    """What no program shows: samples meet in a layer that trains, or Python computed on with what it had read."""
    shown = any(not cause.harmless for cause in found.causes)
    if shown or measured.behaviour != "other" or measured.unsteady is not None:
        return []
    meeting = None if found.causes else find_meeting(target, measured.samples, seed)
    if meeting is not None:
        return [finding_of(meeting)]
    own = python_cause(target, measured.samples, path, measured.tolerance, seed)
    return [] if own is None or (own.code == "unexplained" and found.causes) else [own]


def _on_order(measured: FunctionMeasurement, verdict: Code) -> tuple[str, ...]:
    """What joining batches means where samples are not alike: a pair in two halves is torn apart."""
    if not measured.order_matters or verdict in ("broadcast", "couples"):
        return ()
    return (f"{NOTE}; pairs that lie in two halves of a batch are torn apart then",)
