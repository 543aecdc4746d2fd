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


def printed(command: str) -> list[Text]:
    """The lines that ``batchproof ...`` prints, below its own.

    Raises:
        ValueError: it is another program.
        RuntimeError: the command failed.
    """
    program, verb, *arguments = command.split()
    if program != "batchproof":
        raise ValueError(command)
    kept = KEPT / f"{hashlib.blake2s(f'{command} {COLUMNS} {_state()}'.encode(), digest_size=8).hexdigest()}.ansi"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        kept.write_text(_run([verb, *UNSEEN.get(verb, []), *arguments]), encoding="utf-8")
    lines = Text.from_ansi(kept.read_text(encoding="utf-8").rstrip()).split("\n")
    for line in lines:
        line.rstrip()
    return [Text.assemble((PROMPT, "dim"), (command, "bold")), *lines]


def _run(arguments: list[str]) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {
        "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color",
        "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _CALL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # where the table of `run` goes
        check=False,
        cwd=ROOT,
        env=environment,
        encoding="utf-8",
        timeout=300,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"batchproof {' '.join(arguments)}: {done.stdout}")
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
