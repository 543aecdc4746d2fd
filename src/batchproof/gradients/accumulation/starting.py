"""From where a forward pass of our own begins, and where everything is put back to after it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from batchproof.gradients.accumulation.replay import Replay
from batchproof.ground.isolation import RandomState, held_by, reachable, refill


class Start:
    """What forward may write to: generators and buffers, attributes and parameters of modules, what it holds itself."""

    def __init__(self, replay: Replay, modules: Sequence[torch.nn.Module], forward: Callable[..., Any]) -> None:
        self.replay = replay
        self.moment = replay.moment()
        parts = dict.fromkeys(part for module in modules for part in module.modules())
        owners = [thing for thing in (forward, getattr(forward, "__self__", None)) if hasattr(thing, "__dict__")]
        tables: list[Any] = [vars(thing) for thing in dict.fromkeys([*parts, *owners])]
        values = [*held_by(forward), *(value for table in tables for value in table.values())]
        self.tables = [(table, copy.copy(table)) for table in tables]
        self.tables += [(value, copy.copy(value)) for value in values if type(value) in (dict, list, set)]
        cells = [cell for thing in reachable(forward) for cell in getattr(thing, "__closure__", None) or ()]
        self.cells = [(cell, cell.cell_contents) for cell in cells if _filled(cell)]
        self.sources = [(value, value.get_state()) for value in values if isinstance(value, torch.Generator)]
        parameters = list(dict.fromkeys(p for part in parts for p in part._parameters.values() if p is not None))
        self.parameters = [(parameter, parameter.data) for parameter in parameters]
        self.copies = [(parameter, parameter.detach().clone()) for parameter in _driven(parameters)]

    @property
    def written(self) -> bool:
        """Whether something that lasts has been written to."""
        return any(slot.changed for slot in self.replay.slots) or any(_differ(*pair) for pair in self.tables)

    @property
    def drawn(self) -> bool:
        """Whether random numbers have been drawn since."""
        own = any(not torch.equal(source.get_state(), state) for source, state in self.sources)
        return own or not RandomState.read().same(self.moment.generators)

    def generators(self) -> None:
        """Random numbers as at the beginning, and nothing else."""
        self.moment.generators.put_back()
        for source, state in self.sources:
            source.set_state(state)

    def put_back(self) -> None:
        """Everything as at the beginning."""
        self.replay.at(self.moment)
        self.generators()
        for cell, content in self.cells:
            if cell.cell_contents is not content:
                cell.cell_contents = content
        for table, content in self.tables:
            if _differ(table, content):
                refill(table, content)
        for parameter, data in self.parameters:
            if parameter.data_ptr() != data.data_ptr():
                parameter.data = data
        with torch.no_grad():
            for frozen, old in self.copies:
                if not torch.equal(frozen, old):
                    frozen.copy_(old)


def _driven(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Parameters that do not train, but may be moved by forward: a momentum encoder's are as many as those that train.

    Where they are many more, they are the model that adapters are put on, and nothing writes to them.
    """
    frozen = [p for p in parameters if not p.requires_grad and p.layout is torch.strided and p.device.type != "meta"]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return frozen if sum(p.numel() for p in frozen) <= 2 * trained else []


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
        return True
    except ValueError:  # not filled yet
        return False


def _differ(table: Any, content: Any) -> bool:
    """Whether a container holds other things; asking these whether they are equal could mean anything."""
    if isinstance(table, dict):
        return table.keys() != content.keys() or any(table[key] is not value for key, value in content.items())
    return len(table) != len(content) or any(a is not b for a, b in zip(table, content, strict=True))
