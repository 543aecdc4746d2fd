"""What a command prints in a terminal, colours and all: run once, and kept until the source or the examples change."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from rich.text import Text

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "_build" / "reports"
PROMPT = "$ "
#: The width of a terminal that nobody has resized.
COLUMNS = 80
#: A report of runs that were kept from an earlier build would say so.
UNSEEN = {"compare": ["--no-cache"]}
_CALL = "import sys; sys.argv[0] = 'batchproof'; from batchproof.cli import main; raise SystemExit(main())"
PROGRAMS = {"batchproof": ["-c", _CALL], "python": [], "torchrun": ["-m", "torch.distributed.run"]}


def printed(command: str) -> list[Text]:
    """The lines that a command prints, in its colours, below its own."""
    kept = KEPT / f"{hashlib.blake2s(f'{command} {COLUMNS} {_state()}'.encode(), digest_size=8).hexdigest()}.ansi"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        kept.write_text(run(command, columns=COLUMNS, colour=True), encoding="utf-8")
    lines = Text.from_ansi(kept.read_text(encoding="utf-8").rstrip()).split("\n")
    for line in lines:
        line.rstrip()
    return [Text.assemble((PROMPT, "dim"), (command, "bold")), *lines]


def run(command: str, columns: int, colour: bool) -> str:
    """What a command prints, on stdout and stderr, in a terminal of that width.

    Raises:
        RuntimeError: it failed.
    """
    program, *arguments = command.split()
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")} | {
        "COLUMNS": str(columns), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    if colour:
        environment |= {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, *PROGRAMS[program], *arguments[:1], *UNSEEN.get(arguments[0], []), *arguments[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # where the table of `run` goes
        check=False,
        cwd=ROOT,
        env=environment,
        encoding="utf-8",
        timeout=300,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command}: {done.stdout}")
    return done.stdout


@cache
def _state() -> str:
    """What a report depends on."""
    state = hashlib.blake2s(sys.version.encode())
    for folder in ("src", "examples"):
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.is_file() and "__pycache__" not in path.parts:
                state.update(path.read_bytes())
    return state.hexdigest()
