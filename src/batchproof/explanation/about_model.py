"""A report on a model: does a sample's output depend on the other samples of its batch?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from batchproof.explanation.cause_texts import finding
from batchproof.explanation.measure import Sizes
from batchproof.explanation.models import Coupling, Culprit, change_with_size, inspect_model
from batchproof.explanation.result import Code, Curve, Explanation, Finding, Reading, Subject
from batchproof.explanation.samples import Samples

MOST_SAMPLES = 256
_NORMS = ("BatchNorm", "SyncBatchNorm", "LazyBatchNorm")


def about_model(subject: Subject, samples: Samples, leaves: Sequence[bool], sizes: Sizes, seed: int) -> Explanation:
    """Find what couples the samples; where something does, how far the outputs move with the batch size."""
    coupling = inspect_model(subject.target, samples, leaves, seed)
    some = samples.shuffled(seed).first(MOST_SAMPLES)
    curve = None
    if coupling.couples:
        curve = _curve(change_with_size(subject.target, some, leaves, sizes(some.n), seed), some, samples.n)
    use = _use(subject, coupling)
    notes = [*_mode(subject.target), *(["in training no accumulation of micro-batches is exact"] if use else [])]
    findings = tuple(finding_of(culprit) for culprit in coupling.culprits)
    return Explanation(
        target=subject.title,
        kind="model",
        is_safe={None: None, True: False, False: True}[coupling.couples],
        verdict="random" if coupling.couples is None else "couples" if coupling.couples else "independent",
        headline=_headline(subject.name, coupling),
        findings=findings or _otherwise(coupling),
        place=subject.place,
        curve=curve,
        keep=None,
        use=use,
        inputs=subject.inputs,
        asked=subject.asked,
        marked=subject.marked,
        notes=tuple(notes),
    )


def _headline(name: str, coupling: Coupling) -> str:
    if coupling.couples is None:
        return f"could not tell: two runs of {name} from the same random numbers differ"
    if not coupling.couples:
        return f"{name} is safe: each sample's output depends on that sample alone"
    when = {None: "", True: ", in eval mode too", False: ", in training mode only"}[coupling.couples_in_eval]
    return f"{name} depends on the batch{when}: a sample's output changes with the other samples of its batch"


def _otherwise(coupling: Coupling) -> tuple[Finding[Code], ...]:
    if coupling.couples is None:
        return (finding("random"),)
    return () if coupling.couples else (finding("independent"),)


def finding_of(culprit: Culprit) -> Finding[Code]:
    """What couples samples, with its module, its line and what to do instead."""
    more = f" and {culprit.alike} more {culprit.kind} in training mode" if culprit.alike else ""
    place = culprit.place
    if culprit.kind.startswith(_NORMS):
        what = "it normalises each sample by the mean and variance of its batch"
        remedy = "score in eval mode; to train exactly at any batch size: GroupNorm, LayerNorm, or frozen statistics"
    else:
        what = "what it gives for one sample moves when another sample of the batch is replaced"
        remedy = "work within a sample: mind the dim argument" if not culprit.ends_in_eval else "score in eval mode"
    return finding("couples", place, title=f"{culprit}{more}" if culprit.kind else "", what=what, remedy=remedy)


def _curve(changes: dict[int, float | str], samples: Samples, of_samples: int) -> Curve:
    readings = []
    for size, change in changes.items():
        value = change if isinstance(change, float) else float("nan")
        raised = change if isinstance(change, str) else None
        batches = -(-samples.n // size)
        undefined = batches if raised else 0
        readings.append(
            Reading(size, batches, batches, samples.n % size, value, value, value, undefined=undefined, raised=raised)
        )
    return Curve(0.0, tuple(readings), samples.n, of_samples, quantity="change of the output", scale=1.0)


def _mode(target: Any) -> list[str]:
    if not isinstance(target, torch.nn.Module):
        return []
    modes = {module.training for module in target.modules()}
    return ["looked at in training mode"] if modes == {True} else ["looked at in eval mode"] if modes == {False} else []


def _use(subject: Subject, coupling: Coupling) -> tuple[str, ...]:
    if not coupling.couples or not isinstance(subject.target, torch.nn.Module):
        return ()
    if coupling.couples_in_eval is False:
        return ("model.eval()",)
    return ()
