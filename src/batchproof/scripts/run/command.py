"""The command that runs a script in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from batchproof.scripts.run.control import Control


def command_line(
    target: str, arguments: Sequence[str], control: Control, output: Path, as_module: bool = False
) -> list[str]:
    """What to start: the script's own streams stay its own, and its `Run` is written to ``output``."""
    options = ["--quiet", "--output", str(output), "--control", control.to_json()]
    named = ["-m", target] if as_module else [target]
    return [sys.executable, "-m", "batchproof.cli", "run", *options, *named, *arguments]
