"""What `update` asks of a device: no operation may wait for a value to come back to Python.

Every operation that one update dispatches is counted. ``_local_scalar_dense`` is a value read in Python; those with a
size that depends on the data wait as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.cases import CASES, TORCHMETRICS
from bench.section import Aim, Section

READ = torch.ops.aten._local_scalar_dense.default


class Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations = self.reads = self.sized_by_data = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        self.reads += func is READ
        self.sized_by_data += func is not READ and torch.Tag.data_dependent_output in func.tags
        self.sized_by_data += torch.Tag.dynamic_output_shape in func.tags
        return func(*args, **(kwargs or {}))


def counted(metric: Any, batch: Any) -> Counter:
    with Counter() as counter:
        metric.update(*batch)
    return counter


def run(quick: bool) -> Section:
    section = Section(
        "nosync",
        "operations that one update dispatches, and those of them that wait for the device",
        ["metric", "ours", "values read", "sizes", TORCHMETRICS, "values read ", "sizes "],
        notes=[
            "values read: _local_scalar_dense",
            "sizes: an output as long as the data says, such as bincount's, which the function itself asks for",
        ],
    )
    for case in CASES:
        batch = case.batch(32)
        row: list[Any] = [case.name]
        for metric in (case.ours(), case.rivals[TORCHMETRICS]()):
            counter = counted(metric, batch)
            row += [counter.operations, counter.reads, counter.sized_by_data]
        section.rows.append(row)
    section.aims = [Aim("values read in an update", 0, sum(row[2] for row in section.rows))]
    return section
