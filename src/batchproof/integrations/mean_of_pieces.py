"""What a loss is a mean over, found by cutting its batches; and that mean over all batches of an evaluation.

Of a mean over tokens, m(batch) · tokens(batch) is the sum of it over the batch's pieces; over samples or anything else
it is not. Some batches are cut, and what does not fit one of them is left out. Where the loss takes the number to
divide by (``num_items_in_batch``), nothing has to be found: only that it does divide by it, and adds up otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.ground.text import error_line
from batchproof.integrations.trainer_loss import TrainerLoss, cut, joined, rows_of

COUNTED = "items as num_items_in_batch counts them"


@dataclass
class LossTally:
    """What one rank has taken in.

    Attributes:
        sums: For each unit that the loss may be a mean over, the sum of the loss and the number of units.
        refused: Why there is no exact loss.
        batches: How many batches came.
        cut: Whether the units were tried on a batch in pieces.
        divides: Whether the loss is a sum that is divided by a number which it is told; None before the first batch.
    """

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    refused: str = ""
    batches: int = 0
    cut: bool = False
    divides: bool | None = None


class MeanOfPieces:
    """The exact loss of one evaluation, as its batches come."""

    def __init__(self, loss: TrainerLoss) -> None:
        self.loss = loss
        self.tally = LossTally(refused=loss.why_not())
        self._scale = 1.0
        self._units: set[str] | None = None
        self._previous: Mapping[str, Any] | None = None
        self._of_step: list[float] = []

    # ------------------------------------------------------------------ a batch

    def take(self, model: Any, inputs: Mapping[str, Any], loss: Any, items: Any, kept: Callable[[int], int]) -> None:
        """A batch, the Trainer's loss of it, what this was told to divide by, and how many rows are no repeats."""
        self._of_step.append(float(loss.detach().double().mean()))
        if self.tally.refused:
            return
        try:
            self._take(model, inputs, self._of_step[-1], None if items is None else float(items), kept)
        except (BatchproofError, ValueError) as error:
            self.tally.refused = str(error)
        except Exception as error:  # noqa: BLE001 - an evaluation goes on, whatever the loss does with pieces
            self.tally.refused = f"computed again, in pieces, the loss raises {error_line(error)}"

    def stepped(self, loss: Any) -> None:
        """A batch is done: the Trainer goes on with this loss."""
        mine, self._of_step = self._of_step, []
        its = float(loss.detach().double().mean())
        if self.tally.refused:
            return
        if not mine:
            self.tally.refused = "the Trainer's compute_loss was not called in the evaluation"
        elif len(mine) > 1 or not (mine[0] == its or (math.isnan(mine[0]) and math.isnan(its))):
            self.tally.refused = "the Trainer's prediction_step gives another loss than its compute_loss"

    def _take(
        self, model: Any, inputs: Mapping[str, Any], loss: float, items: float | None, kept: Callable[[int], int]
    ) -> None:
        tally = self.tally
        tally.batches += 1
        rows = rows_of(inputs)
        real = kept(rows)
        bare = (loss == 0 or not math.isfinite(loss)) and 0 in self.loss.units(inputs).values()  # it has no labels
        if tally.divides is None and not bare:
            self._look(model, inputs, loss, items)
        if real == 0:
            return
        own = inputs if real == rows else cut(inputs, 0, real)
        value = (loss * items if tally.divides and items is not None else loss) / self._scale
        if real < rows:
            value = self._value(model, own, items)
        at_end = bool(self.loss.trainer.accelerator.gradient_state.end_of_dataloader)
        if not bare and (tally.batches & (tally.batches - 1) == 0 or at_end):
            again = self._value(model, own, items)
            if not self._close(value, again):
                raise ValueError(f"computed again, a batch's loss is {again:.6g}, not {value:.6g}: it is random")
            self._try_pieces(model, own, value, items)
        for unit, number in self._counted(own).items():
            total, before = tally.sums.get(unit, (0.0, 0))
            tally.sums[unit] = total + self._sum(value, number), before + number
        self._previous = own if rows == 1 else None

    def _value(self, model: Any, inputs: Mapping[str, Any], items: float | None) -> float:
        """The loss of some samples: their sum where it divides by what it is told, otherwise their mean."""
        return self.loss(model, inputs, None if items is None else 1)

    def _look(self, model: Any, inputs: Mapping[str, Any], loss: float, items: float | None) -> None:
        """Find out whether the loss divides by what it is told, and whether it is scaled for the ranks."""
        value, divides = self._value(model, inputs, items), False
        if not math.isfinite(value) or value == 0:
            raise ValueError(f"the first batch's loss is {value}, which does not tell what it is a mean over")
        if items is not None:
            half = self.loss(model, inputs, 2)
            divides = self._close(value, 2 * half)
            if not divides and not self._close(value, half):
                raise ValueError("the loss divides a part of it by num_items_in_batch, and another part not")
        ratio = (loss * items if divides and items is not None else loss) / value
        self._scale = next((scale for scale in (1.0, float(self.loss.world)) if self._close(ratio, scale)), 0.0)
        if not self._scale:
            raise ValueError(f"computed again, the first batch's loss is {1 / ratio:.6g} times as large: is it random?")
        self.tally.divides = divides

    def _counted(self, inputs: Mapping[str, Any]) -> dict[str, int]:
        if self.tally.divides:
            return {COUNTED: self.loss.items(inputs)}
        return {
            unit: number
            for unit, number in self.loss.units(inputs).items()
            if self._units is None or unit in self._units
        }

    def _close(self, a: float, b: float) -> bool:
        return math.isclose(a, b, rel_tol=self.loss.rounding, abs_tol=1e-9)

    def _sum(self, value: float, number: int) -> float:
        if number == 0:
            return 0.0  # a mean over none is NaN, and adds nothing
        return value if self.tally.divides else value * number

    # ------------------------------------------------------------------ in pieces

    def _try_pieces(self, model: Any, own: Mapping[str, Any], value: float, items: float | None) -> None:
        rows = rows_of(own)
        if rows == 1 and self._previous is not None:
            pair = joined(self._previous, own)
            if pair is not None:
                self._try(model, pair, self._value(model, pair, items), 1, items)
        if rows > 1:
            self._try(model, own, value, max(1, rows // 3), items)
            sparse = self.loss.sparse(own)
            if sparse is not None:
                self._try(model, sparse, self._value(model, sparse, items), 1, items)

    def _try(self, model: Any, whole: Mapping[str, Any], value: float, place: int, items: float | None) -> None:
        """Leave out what the loss of a batch in two pieces shows that it is no mean over."""
        pieces = [cut(whole, 0, place), cut(whole, place, rows_of(whole))]
        values = [self._value(model, piece, items) for piece in pieces]
        numbers = [self._counted(piece) for piece in pieces]
        of_whole = self._counted(whole)
        fits = {
            unit
            for unit, number in of_whole.items()
            if self._close(
                self._sum(value, number),
                sum(self._sum(v, counted[unit]) for v, counted in zip(values, numbers, strict=True)),
            )
        }
        if not fits:
            what = "added up" if self.tally.divides else f"weighted by {', '.join(of_whole)}"
            raise ValueError(
                f"the losses of a batch's pieces, {what}, do not give the batch's: it is no mean over them"
            )
        self._units = fits
        self.tally.cut = True
        self.tally.sums = {unit: both for unit, both in self.tally.sums.items() if unit in fits}

    # ------------------------------------------------------------------ the end

    def result(self) -> tuple[float, str, int]:
        """The exact loss, what it is a mean over, and how many of these there are, on all ranks.

        Raises:
            BatchproofError: it is not known.
        """
        tallies = _of_all(self.tally, self.loss.world)
        refused = next((tally.refused for tally in tallies if tally.refused), "")
        if refused:
            raise BatchproofError(refused)
        if not any(tally.batches for tally in tallies):
            raise BatchproofError("the evaluation set is empty")
        if not any(tally.cut for tally in tallies):
            raise BatchproofError(
                "no batch could be cut into pieces: each has one sample; use a larger per_device_eval_batch_size"
            )
        given = [tally.sums for tally in tallies if tally.sums]
        common = [unit for unit in given[0] if all(unit in sums for sums in given)]
        means = {}
        for unit in common:
            total, number = sum(sums[unit][0] for sums in given), sum(sums[unit][1] for sums in given)
            if number:
                means[unit] = total / number, unit, number
        if not means:
            raise BatchproofError("over the ranks the losses are means over different things, or over nothing")
        found, *others = means.values()
        for other in others:
            if not math.isclose(found[0], other[0], rel_tol=1e-9):
                raise BatchproofError(f"whether the loss is a mean over {found[1]} or over {other[1]} cannot be told")
        return found


def _of_all(tally: LossTally, world: int) -> list[LossTally]:
    if world == 1:
        return [tally]
    found: list[Any] = [None] * world
    torch.distributed.all_gather_object(found, tally)
    return found
