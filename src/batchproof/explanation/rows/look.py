"""Try a model in every way that must not change a sample's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from batchproof.explanation.cause_texts import finding
from batchproof.explanation.models import Coupling, inspect_model, row_leaves
from batchproof.explanation.rows.configuration import is_causal, most_positions, window_of
from batchproof.explanation.rows.generation import generation_perturbations
from batchproof.explanation.rows.judge import MOST_PARAMETERS, TITLES, Judge, RowFindings, parameter_count
from batchproof.explanation.rows.measure import (
    ModelOnRows,
    doubled,
    first_position,
)
from batchproof.explanation.rows.perturbations import (
    OVER,
    ROWS,
    Over,
    Perturbation,
    batch_perturbations,
    is_given,
    packing_perturbation,
    padding_perturbations,
    reason_of,
)
from batchproof.explanation.rows.precision import can_widen, in_double
from batchproof.explanation.rows.sequences import Sequences, find_sequences, parameters_of, with_mask
from batchproof.explanation.samples import Samples
from batchproof.ground.isolation import evaluating, quiet


def look_at_rows(
    target: Callable[..., Any],
    samples: Samples,
    leaves: Sequence[bool],
    seed: int,
    over: Sequence[Over] | None = None,
    told: Callable[[str, int, int], None] | None = None,
) -> RowFindings:
    """Try a model, in eval mode, in every way that must not change a sample's output.

    Args:
        target: The model, or a function with an output for each sample.
        samples: All of them; a few are looked at.
        leaves: For each numeric leaf of the output, whether it has rows.
        seed: Before every call.
        over: What is asked; all if None.
        told: Called with a word, a count and a total.
    """
    found = RowFindings(unclear="" if samples.n > 1 else "one sample has no neighbours")
    samples, leaves = _without_cache(target, with_mask(target, samples), leaves)
    sequences = find_sequences(target, samples)
    few = samples.first(ROWS)
    within = None if sequences is None else replace(sequences, real=sequences.real[: few.n])
    with evaluating(target), quiet(target):
        try:
            subject = ModelOnRows(target, few, within, leaves, seed)
        except Exception as error:  # noqa: BLE001 - what the model raises in eval mode is a finding of its own
            found.notes.append(f"in eval mode {reason_of(error)}")
            return found
        if not subject.repeats():
            found.notes.append("two runs in eval mode from the same random numbers differ: nothing else was tried")
            return found
        first = first_position(subject)
        if sequences is not None and within is not None and first:
            sequences, within = (replace(one, first_position=first) for one in (sequences, within))
            subject.sequences = within
        trials = [trial for trial in _trials(target, samples, few, sequences, within) if _is_asked(trial, over)]
        judge = Judge(subject, found)
        judge.remembering(samples)
        for done, trial in enumerate(trials):
            if told is not None:
                told(TITLES[trial.name], done, len(trials))
            judge.judge(trial)
        if over is None:
            judge.other_modes(next((trial.pairs for trial in trials if trial.name == "alone"), ()))
        if is_causal(target) and (over is None or "generation" in over):
            for trial, measured in generation_perturbations(subject, most_positions(target)):
                judge.of(measured or subject).judge(trial)
    if found.faults and not found.findings:
        found.findings.append(finding("couples"))
    return found


def _without_cache(
    target: Callable[..., Any], samples: Samples, leaves: Sequence[bool]
) -> tuple[Samples, Sequence[bool]]:
    """Samples of calls that give no state for the next token: what stands behind the padding is no answer."""
    if "use_cache" not in parameters_of(target) or is_given(samples, "use_cache"):
        return samples, leaves
    told = replace(samples, fixed={**samples.fixed, "use_cache": False})
    with evaluating(target), quiet(target):
        found = row_leaves(target, told)
    return (told, found) if any(found) else (samples, leaves)


def _trials(
    target: Any, samples: Samples, few: Samples, sequences: Sequences | None, within: Sequences | None
) -> Iterator[Perturbation]:
    yield from batch_perturbations(samples, sequences)
    if within is None:
        yield Perturbation(
            "padding right", reason="no argument says which positions are real (attention_mask, mask, lengths)"
        )
        return
    yield from padding_perturbations(few, within, most_positions(target))
    yield packing_perturbation(few, within, is_causal=is_causal(target), window=window_of(target))


def _is_asked(trial: Perturbation, over: Sequence[Over] | None) -> bool:
    return over is None or any(trial.name in OVER[one] for one in over)


def in_double_too(
    coupling: Coupling, target: Callable[..., Any], samples: Samples, leaves: Sequence[bool], seed: int
) -> Coupling:
    """A coupling of samples, unless it is gone in float64: then what a neighbour moved were the last bits."""
    if not coupling.couples or parameter_count(target) > MOST_PARAMETERS or not can_widen(target):
        return coupling
    try:
        with in_double(target) as narrowing:
            wide = inspect_model(target, doubled(samples), leaves, seed)
    except Exception:  # noqa: BLE001 - what cannot be run in float64 is as it was found
        return coupling
    return wide if wide.couples is False and not narrowing else coupling
