"""Scripts, run in this process with their places measured."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from textwrap import dedent

from batchproof.scripts.run import Control, Epoch, MeasuredAccumulator, ScriptRun, execute
from batchproof.scripts.run.session import Session

#: A regression on 100 samples, so that batches of 16 leave a short last one.
HEAD = """\
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(100, 3)
y = x.sum(1, keepdim=True) + torch.randn(100, 1)
c = torch.randint(0, 4, (100,))
data = TensorDataset(x, y)
loader = DataLoader(data, batch_size=16)
classes = DataLoader(TensorDataset(x, c), batch_size=16)
model = nn.Linear(3, 1)
head = nn.Linear(3, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def rmse(pred, real):
    return torch.sqrt(((pred - real) ** 2).mean())

"""


def run(
    folder: Path, text: str, control: Control | None = None, *, head: bool = True, arguments: Sequence[str] = ()
) -> tuple[ScriptRun, str]:
    """What a script measured, and what it printed."""
    path = folder / "script.py"
    path.write_text((HEAD if head else "") + dedent(text))
    with as_it_was(), redirect_stdout(io.StringIO()) as out:
        session = Session(execute.script(str(path), list(arguments)), control or Control())
        found = session.result(session.run())
    return ScriptRun.from_dict(found.to_dict()), out.getvalue()


def one(folder: Path, text: str, control: Control | None = None) -> tuple[MeasuredAccumulator, Epoch]:
    """The only place of a script, and its last pass."""
    found, _ = run(folder, text, control)
    assert not found.failed
    assert len(found.measured) == 1, [row.name for row in found.measured]
    return found.measured[0], found.measured[0].last


@contextmanager
def as_it_was() -> Iterator[None]:
    """What a run changes in this process is put back."""
    names = ("__main__",)
    modules = {name: sys.modules.get(name) for name in names}
    argv, path, known = sys.argv, list(sys.path), set(sys.modules)
    folder = Path.cwd()
    try:
        yield
    finally:
        os.chdir(folder)
        sys.argv, sys.path[:] = argv, path
        sys.modules.update({name: module for name, module in modules.items() if module is not None})
        for name in set(sys.modules) - known:
            if getattr(sys.modules[name], "__file__", None) and "site-packages" not in str(sys.modules[name].__file__):
                del sys.modules[name]
