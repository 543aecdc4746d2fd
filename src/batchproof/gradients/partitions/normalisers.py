"""The numbers of the whole batch that a loss takes: its tokens, its samples, the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from batchproof.errors import BatchproofError
from batchproof.explanation import Positions, Samples

Counted = Literal["tokens", "samples", "groups", "ranks", "micro_batches", "rank tokens", "rank samples"]
COUNTED = get_args(Counted)
#: What is taken of pieces that are averaged or stand alone; with any other count the pieces add up.
OF_NO_PIECE = ("ranks",)
Normaliser = Counted | Callable[[Any], Any] | float


@dataclass(frozen=True)
class Normalisers:
    """By the parameters of a loss, what each is given.

    Attributes:
        given: As the caller names them.
        of_batch: Makes of samples the batch that the caller's own functions take.
        positions: Which positions count as tokens.
        groups: How many groups the whole batch has.
    """

    given: Mapping[str, Normaliser]
    of_batch: Callable[[Samples], Any]
    positions: Positions | None
    groups: int

    @property
    def pieces_add(self) -> bool:
        """Whether the loss divides by something of the whole batch, so that pieces add up to it."""
        return any(
            callable(value) or (isinstance(value, str) and value not in OF_NO_PIECE) for value in self.given.values()
        )

    def values(self, whole: Samples, rank: Samples, ranks: int = 1, micro_batches: int = 1) -> dict[str, Any]:
        """What the loss is given for a piece of so many.

        Args:
            whole: all samples.
            rank: those of the rank that the piece is on.
            ranks: how many ranks there are.
            micro_batches: how many pieces this rank has.
        """
        counts: dict[str, Callable[[], int]] = {
            "tokens": lambda: self._tokens(whole),
            "samples": lambda: whole.n,
            "groups": lambda: self.groups,
            "ranks": lambda: ranks,
            "micro_batches": lambda: micro_batches,
            "rank tokens": lambda: self._tokens(rank),
            "rank samples": lambda: rank.n,
        }

        def value(one: Normaliser) -> Any:
            if isinstance(one, str):
                return counts[one]()
            return one(self.of_batch(whole)) if callable(one) else one

        return {name: value(one) for name, one in self.given.items()}

    def _tokens(self, samples: Samples) -> int:
        if self.positions is None:
            raise BatchproofError(
                "nothing says which positions are tokens: name the argument that does, padding={'mask': 0} or "
                "padding={'labels': -100}, or pass a function of the batch in place of 'tokens'"
            )
        return int(self.positions.counting(samples).sum())


def check_normalisers(given: Mapping[str, Any]) -> None:
    """Raise BatchproofError for a count that there is not."""
    for name, value in given.items():
        if isinstance(value, str) and value not in COUNTED:
            raise BatchproofError(
                f"normalisers[{name!r}]={value!r}: expected one of {', '.join(map(repr, COUNTED))}, a function of the "
                "batch, or a number"
            )
