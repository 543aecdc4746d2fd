"""A report on a model: does a sample's output depend on the other samples of its batch?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from batchproof.explanation.cause_texts import finding
from batchproof.explanation.measure import Progress, Sizes
from batchproof.explanation.models import Coupling, Culprit, change_with_size, inspect_model
from batchproof.explanation.result import Code, Curve, Explanation, Finding, Reading, Subject
from batchproof.explanation.rows import Over, RowFindings, in_double_too, look_at_rows
from batchproof.explanation.samples import Samples
from batchproof.report.numbers import decimals_for, number

MOST_SAMPLES = 256
#: What a model with such a fault depends on.
FAULTS = {
    "neighbours": "the other samples of its batch",
    "size": "the size of its batch",
    "order": "the order of its batch",
    "padding right": "padding",
    "fixed length": "the length that it is padded to",
    "padding content": "what stands in the padding",
    "padding left": "padding on the left",
    "packing": "what is packed beside a sample",
    "scores": "padding on the left",
    "greedy tokens": "padding on the left",
    "alone": "its batch",
    "repeat": "the calls before",
}
_NORMS = ("BatchNorm", "SyncBatchNorm", "LazyBatchNorm")


def about_model(
    subject: Subject,
    samples: Samples,
    leaves: Sequence[bool],
    sizes: Sizes,
    seed: int,
    over: Sequence[Over] | None = None,
    told: Progress | None = None,
) -> Explanation:
    """Find what couples the samples, in the mode that the model is in, and what else moves an output, in eval mode."""
    coupling = inspect_model(subject.target, samples, leaves, seed)
    coupling = in_double_too(coupling, subject.target, samples, leaves, seed)
    some = samples.shuffled(seed).first(MOST_SAMPLES)
    curve = None
    if coupling.couples:
        curve = _curve(change_with_size(subject.target, some, leaves, sizes(some.n), seed), some, samples.n)
    rows = look_at_rows(subject.target, samples, leaves, seed, over, told)
    use = _use(subject, coupling)
    notes = [*_mode(subject.target), *(["in training no accumulation of micro-batches is exact"] if use else [])]
    findings = _findings(coupling, rows)
    return Explanation(
        target=subject.title,
        kind="model",
        is_safe=_is_safe(coupling, rows),
        verdict=_verdict(coupling, findings),
        headline=_headline(subject.name, coupling, rows),
        findings=findings,
        place=subject.place,
        curve=curve,
        keep=None,
        use=use,
        inputs=subject.inputs,
        asked=subject.asked,
        marked=subject.marked,
        notes=(*notes, *rows.notes),
        trials=tuple(rows.trials),
        one_ulp=rows.one_ulp,
    )


def _is_safe(coupling: Coupling, rows: RowFindings) -> bool | None:
    if coupling.couples is None:
        return None
    if coupling.couples or rows.faults:
        return False
    return None if rows.unclear else True


def _verdict(coupling: Coupling, findings: Sequence[Finding[Code]]) -> Code:
    if coupling.couples is None:
        return "random"
    told: Code = "independent" if findings else "unexplained"
    return next((found.code for found in findings if not found.harmless), told)


def _findings(coupling: Coupling, rows: RowFindings) -> tuple[Finding[Code], ...]:
    """What couples samples, with its line; then what else moves an output, each place once.

    Of two lines of one module that are said to couple samples, the one is right at which a sample's own numbers begin
    to differ: a maximum belongs to one sample of the batch only, and what is divided by it to two.
    """
    module_of = {trial.place: trial.module for trial in rows.faults}
    located = {module_of.get(one.place): one for one in reversed(rows.findings) if one.code == "couples"}
    found = []
    for culprit in coupling.culprits:
        one, surer = finding_of(culprit), located.pop(culprit.module, None)
        is_known = surer is None or culprit.kind.startswith(_NORMS)
        found.append(one if is_known or surer is None else replace(surer, title=one.title))
    found += [one for one in rows.findings if one.code != "couples" or one in located.values()]
    return tuple(found) or (() if rows.unclear and coupling.couples is False else _otherwise(coupling))


def _headline(name: str, coupling: Coupling, rows: RowFindings) -> str:
    if coupling.couples is None:
        return f"could not tell: two runs of {name} from the same random numbers differ"
    if coupling.couples:
        when = {None: "", True: ", in eval mode too", False: ", in training mode only"}[coupling.couples_in_eval]
        return f"{name} depends on the batch{when}: a sample's output changes with the other samples of its batch"
    if rows.faults:
        return _of_fault(name, rows)
    if rows.unclear:
        return f"could not tell: {rows.unclear}"
    rounding = [trial.ulps or 0.0 for trial in rows.trials if trial.state == "rounding" and trial.name != "bfloat16"]
    asked = sum(trial.state == "convention" and trial.name != "training" for trial in rows.trials)
    terms = {0: "", 1: " on one condition"}.get(asked, f" on {asked} conditions")
    rest = ", but for rounding" if rounding else ""
    return f"{name} is safe{terms}: each sample's output depends on that sample alone{rest}"


def _of_fault(name: str, rows: RowFindings) -> str:
    """The plainest fault, in words."""
    gaps = {trial.name: trial.gap or 0.0 for trial in rows.faults}
    plainest = next(fault for fault in FAULTS if fault in gaps)
    moved = number(gaps[plainest], decimals_for([gaps[plainest]], 2))
    return f"{name} depends on {FAULTS[plainest]}: a sample's output moves by {moved} standard deviations"


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
    return finding(
        "couples", place, title=f"{culprit}{more}" if culprit.kind else "the function itself", what=what, remedy=remedy
    )


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
