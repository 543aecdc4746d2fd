"""A run that another part of the program asks for: nothing is shown, its result is a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.scripts.run.control import Control


def launch_quietly(typed: str, arguments: Sequence[str], as_module: bool, control: Control, output: Path) -> int:
    """Run a script for another part of the program: its own output, its status, and its `ScriptRun` in a file."""
    # the face has this name, and whoever only reads a saved run does not wait for what makes one
    from batchproof.scripts.run.launch import Asked, launch

    try:
        return launch(typed, arguments, as_module, control, Asked(output, quiet=True))
    except BatchproofError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
