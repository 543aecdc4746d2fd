"""A report on a function of a batch: measured, then explained from its recorded program."""

from __future__ import annotations

from typing_extensions import assert_never

from batchproof.explanation.cause_texts import CAUSES, Use
from batchproof.explanation.functions import FunctionMeasurement, also_elsewhere, measure_function
from batchproof.explanation.measure import Progress, Sizes
from batchproof.explanation.result import Code, Explanation, Subject
from batchproof.explanation.samples import Samples
from batchproof.explanation.structure import structure
from batchproof.explanation.verdict import conclude
from batchproof.ground.target import name_of
from batchproof.metric import NOTE


def about_function(
    subject: Subject, samples: Samples, sizes: Sizes, seed: int, progress: Progress | None
) -> Explanation:
    """Measure first: what the samples show needs no theory.  The program then says why."""
    measured = measure_function(subject.target, samples, sizes, seed, progress)
    if progress is not None:
        progress("deriving the exact form", 0, 1)
    found = structure(subject.target, measured.samples)
    doubted = measured.behaviour != "other" and any(not cause.harmless for cause in found.causes)
    confirmed = doubted and also_elsewhere(subject.target, measured, seed)
    conclusion = conclude(measured, found.causes, found.proved, confirmed)
    return Explanation(
        target=subject.title,
        kind="function",
        is_safe=conclusion.is_safe,
        verdict=conclusion.verdict,
        headline=conclusion.headline,
        findings=conclusion.findings,
        place=subject.place,
        curve=None if measured.random else measured.curve(),
        keep=None if conclusion.verdict == "broadcast" else found.keep,
        use=_use(subject, conclusion.verdict),
        inputs=subject.inputs,
        notes=() if measured.random else (*_on_order(measured, conclusion.verdict), *found.notes),
    )


def _on_order(measured: FunctionMeasurement, verdict: Code) -> tuple[str, ...]:
    """What joining batches means where samples are not alike: a pair in two halves is torn apart."""
    if not measured.order_matters or verdict in ("broadcast", "couples"):
        return ()
    return (f"{NOTE}; pairs that lie in two halves of a batch are torn apart then",)


def _use(subject: Subject, verdict: Code) -> tuple[str, ...]:
    """Code to paste: what to write instead."""
    name = name_of(subject.target)
    called = f"({', '.join(given.name for given in subject.inputs if given.name.isidentifier()) or '...'})"
    use = CAUSES[verdict].use
    match use:
        case Use.NOTHING:
            return ()
        case Use.WEIGHTED:
            total = f"total += {name}{called}.item() * len({subject.inputs[0].name})"
            return (total, "total / len(dataset) at the end")
        case Use.ADDED:
            return (f"total += {name}{called}.item()", "total / len(dataset) at the end")
        case Use.EXACT:
            own = name if name.isidentifier() and name != "lambda" else "metric"
            return (
                f"{own} = batchproof.exact({name if name != 'lambda' else 'the function'})",
                f"{own}{called} per batch, {own}.compute() per epoch",
            )
        case _:
            assert_never(use)
