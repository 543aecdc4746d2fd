"""Scripts that train in several processes: those that they start are measured too, and hand in what they measured.

A process that is forked goes on with what it was forked with. One that is spawned imports the script anew: it is
told to run the rewritten one. Processes of ``torchrun`` each run the script, and each writes a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchproof.scripts.run.result import ScriptRun
    from batchproof.scripts.run.session import Session

#: What a spawned process is told by.
VARIABLE = "BATCHPROOF_RUN"


def rank() -> int:
    """Which of the processes that train together this one is."""
    return _of_group("get_rank", "RANK", 0)


def world() -> int:
    """How many processes train together."""
    return _of_group("get_world_size", "WORLD_SIZE", 1)


def _of_group(ask: str, variable: str, alone: int) -> int:
    group = sys.modules.get("torch.distributed")
    if group is not None and group.is_available() and group.is_initialized():
        return int(getattr(group, ask)())
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else alone


def ranked(output: Path) -> Path:
    """The file of this process: the first one's is the one that was asked for."""
    number = rank()
    return output if number == 0 else output.with_name(f"{output.stem}.rank{number}{output.suffix}")


class Children:
    """Processes that the script starts."""

    def __init__(self, session: Session, output: Path) -> None:
        self.session = session
        self.output = output
        self.parent = os.getpid()

    def watch(self) -> None:
        """Begin, once ``multiprocessing`` may be used."""
        from multiprocessing import spawn, util

        util.register_after_fork(self, Children.after_fork)
        own: Any = spawn.get_preparation_data
        target = self.session.target
        os.environ[VARIABLE] = json.dumps(
            {
                "path": str(target.path.absolute()),
                "folder": str(target.folder),
                "control": asdict(self.session.control),
                "output": str(self.output),
            }
        )

        def get_preparation_data(name: str) -> dict[str, Any]:
            data: dict[str, Any] = own(name)
            if data.pop("init_main_from_path", None) is not None:
                data["init_main_from_name"] = "batchproof.scripts.run.spawned"
            return data

        spawn.get_preparation_data = get_preparation_data
        self.stop: Callable[[], None] = lambda: setattr(spawn, "get_preparation_data", own)

    def after_fork(self) -> None:
        """In a forked process: forget what the parent measured, and hand in what comes now."""
        self.session.forget()
        self.hand_in_at_end()

    def hand_in_at_end(self) -> None:
        """In a process that the script started: write what was measured when it ends."""
        from multiprocessing import util

        util.Finalize(None, self.hand_in, exitpriority=100)

    def hand_in(self) -> None:
        """Write what this process measured, if it is anything."""
        from batchproof.scripts.run.execute import Ending

        with contextlib.suppress(Exception):
            self.session.recorder.end()
            self.session.children = None  # what others hand in is for the parent
            found = self.session.result(Ending())
            if found.measured:
                self._part(os.getpid()).write_text(json.dumps(found.to_dict()), encoding="utf-8")

    def collect(self) -> list[ScriptRun]:
        """What the script's processes handed in, in the order of their ranks."""
        from batchproof.scripts.run.result import load

        found = []
        for path in sorted(self.output.parent.glob(f"{self.output.name}.*.part")):
            with contextlib.suppress(Exception):
                found.append(load(path))
            path.unlink(missing_ok=True)
        return sorted(found, key=lambda run: run.measured[0].epochs[0].rank)

    def _part(self, process: int) -> Path:
        return self.output.with_name(f"{self.output.name}.{process}.part")
