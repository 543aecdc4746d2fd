"""All runs of a comparison: what is known is read, the others are made a few at a time, until no more are needed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.scripts.compare import plan
from batchproof.scripts.compare.blank import BLANK
from batchproof.scripts.compare.cache import Cache
from batchproof.scripts.compare.plan import Question
from batchproof.scripts.compare.record import RunOutcome, Setting
from batchproof.scripts.compare.workers import Workers, slots
from batchproof.scripts.run import load

#: How often to look whether somebody pressed Ctrl-C.
MOMENT = 0.2
#: What the last line begins with where a script was not even begun.
REFUSED = "error: "

Progress = Callable[[str, int, int], Any]
Check = Callable[[RunOutcome], None]


@dataclass(frozen=True)
class ScriptCommand:
    """What is run.

    Attributes:
        target: a file, or a module's name.
        arguments: as they were given, with their blanks.
        as_module: whether the target is a module's name.
        report: a number that is wanted by name.
    """

    target: str
    arguments: tuple[str, ...] = ()
    as_module: bool = False
    report: str | None = None

    @property
    def has_blank(self) -> bool:
        """Whether the arguments say the batch size."""
        return any(BLANK in argument for argument in self.arguments)

    def job(self, setting: Setting, output: Path) -> dict[str, Any]:
        """What `launch_quietly` is to be asked for, as JSON holds it."""
        return {
            "typed": self.target,
            "arguments": [argument.replace(BLANK, str(setting.batch_size)) for argument in self.arguments],
            "as_module": self.as_module,
            "control": asdict(setting.control(not self.has_blank, self.report)),
            "output": str(output),
        }


@dataclass(frozen=True)
class CompletedRuns:
    """The runs that came to pass.

    Attributes:
        done: by setting; those that failed among them.
        interrupted: whether Ctrl-C ended it.
    """

    done: dict[Setting, RunOutcome] = field(default_factory=dict)
    interrupted: bool = False


def make(
    script: ScriptCommand,
    question: Question,
    cache: Cache,
    jobs: int,
    timeout: float | None = None,
    progress: Progress | None = None,
    check: Check = lambda outcome: None,
) -> CompletedRuns:
    """Every run that the question needs; after Ctrl-C, those that were done by then.

    Args:
        script: what is run.
        question: what is to be compared.
        cache: runs that were made before.
        jobs: how many runs go on at once.
        timeout: seconds that one run may take.
        progress: called with what is run, how many runs are done, and how many there are.
        check: called with the first batch size's run; what it raises ends the comparison.
    """
    runs = CompletedRuns()
    with (
        tempfile.TemporaryDirectory(prefix="batchproof-") as folder,
        ThreadPoolExecutor(jobs) as threads,
        slots(jobs, _environment(jobs)) as servers,
    ):
        maker = _Maker(script, cache, servers, timeout, Path(folder))
        try:
            _go_on(question, maker, threads, jobs, runs.done, progress, check)
        except KeyboardInterrupt:
            runs = replace(runs, interrupted=True)
    return runs


def _go_on(
    question: Question,
    maker: _Maker,
    threads: ThreadPoolExecutor,
    jobs: int,
    done: dict[Setting, RunOutcome],
    progress: Progress | None,
    check: Check,
) -> None:
    running: dict[Future[RunOutcome], Setting] = {}
    while True:
        wanted = plan.needed(question, done)
        for setting in wanted:
            if setting in done or setting in running.values():
                continue
            known = maker.cache.read(setting)
            if known is not None:
                done[setting] = known
                break  # what it did may need other runs
            if len(running) < jobs:
                running[threads.submit(maker.make, setting)] = setting
        else:
            if not running:
                return
            if progress is not None:
                shown = "; ".join(str(setting) for setting in running.values())
                progress(shown, len(set(wanted) & set(done)), len(wanted))
            for future in wait(running, MOMENT, FIRST_COMPLETED).done:
                setting = running.pop(future)
                done[setting] = future.result()
                if setting == Setting(question.sizes[0]) and not done[setting].failed:
                    check(done[setting])


@dataclass(frozen=True)
class _Maker:
    """Makes one run."""

    script: ScriptCommand
    cache: Cache
    servers: Workers
    timeout: float | None
    folder: Path

    def make(self, setting: Setting) -> RunOutcome:
        """In a process of its own."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        job, output, log, files = (place / name for name in ("job.json", "run.json", "log.txt", "files.json"))
        asked = {"run": self.script.job(setting, output), "log": str(log), "files": str(files)}
        job.write_text(json.dumps({**asked, "folder": str(Path.cwd()), "terminal": _terminal()}), encoding="utf-8")
        status = self.servers.run(job, self.timeout)
        if status is None:
            return RunOutcome(setting, failed=f"not done after {self.timeout:g} seconds (--timeout)")
        try:
            run = load(output)
        except BatchproofError:
            return RunOutcome(setting, failed=_why(status, log))
        if run.failed or run.status:
            why = run.failed or f"exit status {run.status}"
            return RunOutcome(setting, run, f"{why}{_where(log)}")
        outcome = RunOutcome(setting, run)
        opened = json.loads(files.read_text(encoding="utf-8")) if files.is_file() else {}
        self.cache.write(outcome, opened)
        return outcome


def _terminal() -> tuple[int, int] | None:
    """Rows and columns of the terminal that somebody types at; None where there is none."""
    try:
        size = os.get_terminal_size(sys.stdin.fileno()) if sys.stdin.isatty() else None
    except (OSError, ValueError, AttributeError):
        return None
    return (size.lines, size.columns) if size is not None and hasattr(os, "openpty") else None


def _where(log: Path) -> str:
    """`` (utils.py:45)``: the last line of a traceback that is in a file of the script's own."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    here = str(Path.cwd())
    for file, line in reversed(re.findall(r'^ *File "(.+)", line (\d+)', text, re.MULTILINE)):
        if file.startswith(here) and "site-packages" not in file:
            return f" ({Path(file).relative_to(here)}:{line})"
    return ""


def _why(status: int, log: Path) -> str:
    """A run that wrote nothing: its last words, or the signal that ended it."""
    if status < 0:
        name = signal.Signals(-status).name if -status in signal.valid_signals() else f"signal {-status}"
        return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return (
        f"{last} (exit status {status})" if last and status and not last.startswith(REFUSED) else last or "no results"
    )


def _environment(jobs: int) -> dict[str, str]:
    """The processors shared out among the runs that go on at once."""
    found = dict(os.environ)
    if jobs > 1:
        found.setdefault("OMP_NUM_THREADS", str(max(1, processors() // jobs)))
    return found


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_jobs(sizes: Sequence[int]) -> int:
    """One at a time on an accelerator, whose memory one run may need; otherwise a few."""
    if any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/kfd")):
        return 1
    return max(1, min(4, processors(), len(sizes)))
