"""Run a forward pass a second time as it ran the first: the same random numbers, the same buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from batchproof.ground.isolation import RandomState
from batchproof.metric import version


@dataclass(frozen=True)
class Slot:
    """A module's buffer, as it was: the tensor, which a module may put another in place of, and its content."""

    module: torch.nn.Module
    name: str
    tensor: Tensor | None
    content: Tensor | None
    version: int

    @classmethod
    def read(cls, module: torch.nn.Module, name: str) -> Slot:
        """A module's buffer as it is now."""
        tensor = module._buffers.get(name)
        if tensor is None:
            return cls(module, name, None, None, 0)
        return cls(module, name, tensor, tensor.detach().clone(), version(tensor))

    @property
    def changed(self) -> bool:
        """Whether it is another one now, or may be."""
        now = self.module._buffers.get(self.name)
        if now is not self.tensor:
            return True
        return now is not None and (version(now) != self.version or self.silent)

    @property
    def silent(self) -> bool:
        """Whether torch writes to it without a note in its version, as it does to running statistics."""
        return isinstance(self.module, _NormBase) and self.module.training

    def put_back(self) -> None:
        """Fill it with what it held."""
        self.module._buffers[self.name] = self.tensor
        if self.tensor is not None and self.content is not None and self.changed:
            self.tensor.copy_(self.content)


@dataclass(frozen=True)
class Moment:
    """What a forward pass starts from beside its arguments: the state of every random generator, changed buffers."""

    generators: RandomState
    buffers: dict[int, Slot]


class Replay:
    """The moments at which forward passes began, and their return."""

    def __init__(self, modules: Sequence[torch.nn.Module]) -> None:
        parts = dict.fromkeys(part for module in modules for part in module.modules())
        self.slots = [Slot.read(part, name) for part in parts for name in part._buffers]

    def counted(self, module: torch.nn.Module) -> bool:
        """Whether a module that counts the batches it has normalised has counted one since the beginning."""
        known = (slot for slot in self.slots if slot.module is module and slot.name == "num_batches_tracked")
        return any(slot.tensor is not None and version(slot.tensor) != slot.version for slot in known)

    def moment(self) -> Moment:
        """Now."""
        changed = {place: Slot.read(slot.module, slot.name) for place, slot in enumerate(self.slots) if slot.changed}
        return Moment(RandomState.read(), changed)

    def at(self, moment: Moment) -> None:
        """Back to a moment."""
        moment.generators.put_back()
        with torch.no_grad():
            for place, slot in enumerate(self.slots):
                if slot.changed or place in moment.buffers:
                    moment.buffers.get(place, slot).put_back()
