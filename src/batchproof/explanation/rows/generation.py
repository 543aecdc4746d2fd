"""A causal model as it is used: what it says of given tokens, and how it goes on, alone and in a batch padded left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from batchproof.explanation.rows.aligned import CountedAxis
from batchproof.explanation.rows.measure import ModelOnRows, OutputGap
from batchproof.explanation.rows.perturbations import (
    EXTRA,
    CallPair,
    Perturbation,
    TrialName,
    is_given,
    numbered,
    reason_of,
)
from batchproof.explanation.rows.sequences import RowsCall, Sequences
from batchproof.explanation.samples import Samples

#: How many tokens it goes on by.
NEW_TOKENS = 8
#: How many samples are tried alone.
ALONE = 2


@dataclass
class ScoredTokens(ModelOnRows):
    """A model that gives the log-probability of each token after the ones before it; 0 where there are none."""

    @classmethod
    def of(cls, subject: ModelOnRows) -> ScoredTokens:
        """A model, measured by its scores."""
        made = object.__new__(cls)
        made.__dict__ |= {
            **subject.__dict__,
            "axes": [(CountedAxis(1), CountedAxis(0, True))],
            "spread": [1.0],
            "names": ["log-probabilities"],
        }
        found = made.outputs(subject.samples)[0]
        made.spread = [float(found.double().std()) or 1.0]
        return made

    def outputs(self, samples: Samples) -> list[Tensor]:
        """(B, T): of each token."""
        logits = next(t for path, t in self._named(samples) if _is_logits(path))
        ids, real = _leaf(samples, "input_ids"), _leaf(samples, "attention_mask") != 0
        scores = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        scores = scores.masked_fill(~(real[:, 1:] & real[:, :-1]), 0.0)
        return [torch.nn.functional.pad(scores, (1, 0))]


@dataclass
class GreedyTokens(ModelOnRows):
    """A model that goes on by the likeliest token each time."""

    @classmethod
    def of(cls, subject: ModelOnRows) -> GreedyTokens:
        """A model, measured by what it writes."""
        made = object.__new__(cls)
        made.__dict__ |= {**subject.__dict__, "axes": [], "spread": [1.0], "names": ["tokens"]}
        return made

    def outputs(self, samples: Samples) -> list[Tensor]:
        """(B, NEW_TOKENS): the tokens that follow."""
        _, kwargs = samples.all()
        ids = kwargs["input_ids"]
        given = {name: value for name, value in kwargs.items() if name in ("input_ids", "attention_mask")}
        with self.same_start(), torch.no_grad():
            written = self.target.generate(  # type: ignore[attr-defined]
                **given, do_sample=False, num_beams=1, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS
            )
        return [written[:, ids.shape[1] :]]

    def gap(self, pair: CallPair) -> OutputGap:
        """How many tokens of the samples differ."""
        ours, theirs = self.outputs(pair.one.samples)[0], self.outputs(pair.other.samples)[0]
        flips = answers = 0
        for one, other in zip(pair.one.spots, pair.other.spots, strict=True):
            flips += int((ours[one.row] != theirs[other.row]).sum())
            answers += ours.shape[1]
        return OutputGap(flips / max(answers, 1), 0.0, flips, answers)


def generation_perturbations(
    subject: ModelOnRows, most: int | None
) -> Iterator[tuple[Perturbation, ModelOnRows | None]]:
    """Scores and greedy tokens, alone and in a batch with padding on the left, each with what measures it.

    Args:
        subject: a causal model on samples with positions.
        most: positions that the model can take; None where it does not say.
    """
    sequences = subject.sequences
    if sequences is None or not _can_be_scored(subject):
        return
    if most is not None and sequences.width + EXTRA + NEW_TOKENS > most:
        reason = f"the model takes {most:,} positions, and the samples have {sequences.width:,}"
        yield from ((Perturbation(name, reason=reason), None) for name in _NAMES)
        return
    batch = sequences.padded(sequences.repacked(subject.samples, at_the_end=True), left=EXTRA)
    if "position_ids" in sequences.takes and not is_given(subject.samples, "position_ids"):
        told = numbered(batch, sequences.first_position)  # as generation numbers them
    else:
        told = batch
    try:
        yield Perturbation("scores", _pairs(subject, sequences, told)), ScoredTokens.of(subject)
    except Exception as error:  # noqa: BLE001 - logits that are not of each token
        yield Perturbation("scores", reason=reason_of(error)), None
    if hasattr(subject.target, "generate"):
        yield Perturbation("greedy tokens", _pairs(subject, sequences, batch)), GreedyTokens.of(subject)
    else:
        yield Perturbation("greedy tokens", reason="the model has no method generate"), None


_NAMES: tuple[TrialName, ...] = ("scores", "greedy tokens")


def _pairs(subject: ModelOnRows, sequences: Sequences, batch: RowsCall) -> tuple[CallPair, ...]:
    rows = range(min(subject.samples.n, ALONE))
    return tuple(
        CallPair(sequences.alone(subject.samples, row), replace(batch, spots=(batch.spots[row],))) for row in rows
    )


def _can_be_scored(subject: ModelOnRows) -> bool:
    samples = subject.samples
    has_ids = {"input_ids", "attention_mask"} <= set(samples.layout.keywords)
    outputs = zip(subject.names, subject.axes, strict=False)
    return has_ids and any(_is_logits(name) and axes is not None and len(axes) == 3 for name, axes in outputs)


def _is_logits(path: str) -> bool:
    return path.strip("[]'.") == "logits"


def _leaf(samples: Samples, name: str) -> Any:
    return samples.leaves[samples.names.index(name)]
