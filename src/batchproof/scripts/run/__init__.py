"""Run a script as ``__main__`` with the places where it averages over batches measured.

For other parts of the program (`compare`):

- `Control` says what to hold fixed: the batch size of all loaders, the seed, updates in each pass, a factor on every
  learning rate, repairs in evaluation; whether to score each pass again with its last weights; a number by name.
- `launch_quietly(target, arguments, as_module, control, output)` runs a script in this process, prints what the script
  prints and nothing else, gives the script's status, and writes its `ScriptRun` to ``output``.
- `load(output)` reads that `ScriptRun`: ``run.measured`` has one entry for each accumulator, each with its ``epochs``
  (printed, exact, mean, weighted, averaged, settled, sizes, samples, updates, dataset); ``run.seen`` what only a run
  shows; ``run.updates`` the optimizer steps of each training pass; ``run.learning_rate`` of the first step;
  ``run.reported`` the number that was asked for by name.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.scripts.run.control import Control, Repair
from batchproof.scripts.run.execute import path_of
from batchproof.scripts.run.result import (
    TOLERANCE,
    Epoch,
    MeasuredAccumulator,
    Observation,
    Phase,
    RankValues,
    Reported,
    ScriptRun,
    load,
)

__all__ = [
    "TOLERANCE",
    "Control",
    "Epoch",
    "MeasuredAccumulator",
    "Observation",
    "Phase",
    "RankValues",
    "Repair",
    "Reported",
    "ScriptRun",
    "launch_quietly",
    "load",
    "path_of",
]


def launch_quietly(typed: str, arguments: Sequence[str], as_module: bool, control: Control, output: Path) -> int:
    """Run a script for another part of the program: its own output, its status, and its `ScriptRun` in a file."""
    # whoever only reads a saved run does not wait for what makes one
    from batchproof.scripts.run.launch import launch

    try:
        return launch(typed, arguments, as_module, control, output)
    except BatchproofError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
