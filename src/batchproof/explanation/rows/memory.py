"""Whether a call of a model changes the next one, and by what that it holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from batchproof.explanation.rows.measure import ModelOnRows
from batchproof.explanation.samples import Samples
from batchproof.ground.held_state import HeldKind, held_still, restore
from batchproof.ground.isolation import seed_all


@dataclass(frozen=True)
class Memory:
    """What calls leave behind for the next one.

    Attributes:
        gap: How far the outputs of the same samples lie apart, before and after others, in standard deviations.
        thing: What the model holds that makes the difference; None where that is no one thing, or not known.
        kind: A buffer, an attribute, or a variable of a function.
    """

    gap: float
    thing: str | None = None
    kind: HeldKind = "attribute"

    @property
    def module(self) -> str | None:
        """The module that holds it."""
        return None if self.thing is None or self.kind == "variable" else self.thing.rpartition(".")[0]


def find_memory(subject: ModelOnRows, few: Samples, other: Samples) -> Memory:
    """Call a model on samples, on others, and on the first again; where answers differ, find what it remembered."""
    with held_still(subject.target) as held, torch.no_grad():
        first = _run(subject, few)
        _run(subject, other)
        again = _run(subject, few)
        gap = subject.apart(first, again)
        if gap == 0:
            return Memory(0.0)
        for thing in [thing for thing in held if thing.has_changed()]:
            restore(held)
            _run(subject, few)
            _run(subject, other)
            name = thing.full_name
            thing.restore()
            if subject.apart(first, _run(subject, few)) < gap / 2:
                return Memory(gap, name, thing.kind)
    return Memory(gap)


def _run(subject: ModelOnRows, samples: Samples) -> list[torch.Tensor]:
    seed_all(subject.seed)
    return subject.rows_of(samples)
