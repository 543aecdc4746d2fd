"""Run a forward pass a second time as it ran the first: the same random numbers, the same buffers."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """What a forward pass starts from beside its arguments: the state of every random generator, changed buffers."""

    cpu: Tensor
    cuda: list[Tensor]
    python: Any
    numpy: Any
    buffers: dict[Tensor, Tensor]


class Replay:
    """The moments at which forward passes began, and their return."""

    def __init__(self, modules: Sequence[torch.nn.Module]) -> None:
        buffers = {buffer for module in modules for buffer in module.buffers()}
        self.first = {buffer: buffer.detach().clone() for buffer in buffers}
        self.versions = {buffer: buffer._version for buffer in buffers}

    def moment(self) -> Moment:
        """Now."""
        changed = {
            buffer: buffer.detach().clone() for buffer, version in self.versions.items() if buffer._version != version
        }
        numpy = sys.modules.get("numpy.random")
        on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return Moment(
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if on_gpu else [],
            random.getstate(),
            None if numpy is None else numpy.get_state(),
            changed,
        )

    def at(self, moment: Moment) -> None:
        """Back to a moment."""
        torch.set_rng_state(moment.cpu)
        if moment.cuda:
            torch.cuda.set_rng_state_all(moment.cuda)
        random.setstate(moment.python)
        if moment.numpy is not None:
            sys.modules["numpy.random"].set_state(moment.numpy)
        with torch.no_grad():
            for buffer, version in self.versions.items():
                if buffer._version != version:
                    buffer.copy_(moment.buffers.get(buffer, self.first[buffer]))
