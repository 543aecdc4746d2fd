"""The batches of one size in spans, each with a generator of its own.

A span's generator is seeded by what the span is, not by when it is drawn: so a seed gives the same numbers on any
number of threads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

#: Batches go to so many groups, one after another: the spread of the groups' values gives the standard errors.
GROUPS = 20


@dataclass(frozen=True)
class Chunk:
    """Some batches of one size, all of one group."""

    number: int
    group: int
    batches: int
    size: int
    seed: int

    @property
    def samples(self) -> int:
        """How many samples all its batches have."""
        return self.batches * self.size

    def generator(self) -> torch.Generator:
        """Of the random numbers that belong to it, whichever thread draws them."""
        text = f"{self.seed}/{self.size}/{self.number}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@dataclass(frozen=True)
class Round:
    """What is drawn for one batch size: so many batches, from one seed, in so many threads."""

    size: int
    batches: int
    seed: int
    threads: int = 1

    def spans(self, most: int) -> list[Chunk]:
        """All the batches, at most so many in a span."""
        found: list[Chunk] = []
        groups = min(GROUPS, self.batches)
        for group in range(groups):
            left = self.batches * (group + 1) // groups - self.batches * group // groups
            while left:
                found.append(Chunk(len(found), group, min(max(most, 1), left), self.size, self.seed))
                left -= found[-1].batches
        return found
