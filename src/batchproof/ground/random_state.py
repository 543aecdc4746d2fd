"""Where every random generator that a function may draw from stands."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class RandomState:
    """The states of torch's generators, Python's, and NumPy's if it is in use."""

    cpu: torch.Tensor
    cuda: list[torch.Tensor]
    python: Any
    numpy: Any

    @classmethod
    def read(cls) -> RandomState:
        """Now."""
        numpy = sys.modules.get("numpy")
        return cls(
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if cuda_in_use() else [],
            random.getstate(),
            None if numpy is None else numpy.random.get_state(),
        )

    def same(self, other: RandomState) -> bool:
        """Whether no number lies between the two."""
        pairs = zip([self.cpu, *self.cuda], [other.cpu, *other.cuda], strict=False)
        return (
            all(torch.equal(mine, theirs) for mine, theirs in pairs)
            and self.python == other.python
            and repr(self.numpy) == repr(other.numpy)
        )

    def put_back(self) -> None:
        """As it was read."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


def cuda_in_use() -> bool:
    """Whether a CUDA generator may have been drawn from; asking it otherwise would start CUDA."""
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
