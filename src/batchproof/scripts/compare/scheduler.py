"""All runs of a comparison: what is known is read, the others are made a few at a time, until no more are needed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from batchproof.scripts.compare.watch import load as load_notes
from batchproof.scripts.compare.workers import Workers, slots
from batchproof.scripts.compare.workspace import Workspace, remove
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
            "ranks": setting.ranks,
        }


@dataclass(frozen=True)
class CompletedRuns:
    """The runs that came to pass.

    Attributes:
        done: by setting; those that failed among them.
        interrupted: whether Ctrl-C, or a signal that ends a program, ended it.
        notes: how they were made, where that bears on what they say.
    """

    done: dict[Setting, RunOutcome] = field(default_factory=dict)
    interrupted: bool = False
    notes: tuple[str, ...] = ()


def make(
    script: ScriptCommand,
    question: Question,
    cache: Cache,
    jobs: int,
    timeout: float | None = None,
    progress: Progress | None = None,
    check: Check = lambda outcome: None,
    workspace: Workspace = Workspace(),  # noqa: B008 - it is frozen
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
        workspace: how runs are kept apart.
    """
    runs = CompletedRuns()
    with (
        interrupted_by_signals(),
        tempfile.TemporaryDirectory(prefix="batchproof-") as folder,
        ThreadPoolExecutor(jobs) as threads,
        slots(jobs, _environment(jobs)) as servers,
    ):
        maker = _Maker(script, cache, servers, timeout, Path(folder), workspace)
        try:
            _go_on(question, maker, threads, jobs, runs.done, progress, check)
        except KeyboardInterrupt:
            runs = replace(runs, interrupted=True)
    return replace(runs, notes=tuple(_notes(workspace, cache, runs.done.values())))


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end this as Ctrl-C does; a program that ignores them (``nohup``) goes on."""

    def interrupt(number: int, frame: object) -> None:
        for each in changed:
            signal.signal(each, signal.SIG_IGN)  # once: what is begun now is to be tidied up
        raise KeyboardInterrupt

    ending = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    changed = [each for each in ending if is_main and signal.getsignal(each) is signal.SIG_DFL]
    for each in changed:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in changed:
            signal.signal(each, signal.SIG_DFL)


def _notes(workspace: Workspace, cache: Cache, outcomes: Iterable[RunOutcome]) -> Iterator[str]:
    """What was not kept apart, and what was not kept."""
    outcomes = list(outcomes)
    if workspace.kind == "shared":
        yield (
            "the folder is too large to copy for each run: they were made in it, one after the other, and may have "
            "read what another left"
        )
    written = list(dict.fromkeys(path for outcome in outcomes for path in outcome.written))
    if written:
        more = f" and {len(written) - 1} more" if len(written) > 1 else ""
        yield (
            f"the script writes {written[0]}{more}, outside of the folder that each run has for itself: they were made "
            "one after the other, and may have read what another left"
        )
    why = next((outcome.unknowable for outcome in outcomes if outcome.unknowable), "")
    if why and cache.folder is not None:
        yield f"these runs are not kept: of what the script reads, not all is known, since {why}"


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
        at_once = jobs if _are_apart(maker.workspace, done.values()) else 1
        wanted = plan.needed(question, done)
        for setting in wanted:
            if setting in done or setting in running.values():
                continue
            known = maker.cache.read(setting)
            if known is not None:
                done[setting] = known
                break  # what it did may need other runs
            if len(running) < at_once:
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
                if setting == question.cuts[0] and not done[setting].failed:
                    check(done[setting])


def _are_apart(workspace: Workspace, done: Collection[RunOutcome]) -> bool:
    """Whether runs may go on at once: the first, which tells, is made alone."""
    return workspace.kind != "shared" and bool(done) and not any(outcome.written for outcome in done)


@dataclass(frozen=True)
class _Maker:
    """Makes one run."""

    script: ScriptCommand
    cache: Cache
    servers: Workers
    timeout: float | None
    folder: Path
    workspace: Workspace

    def make(self, setting: Setting) -> RunOutcome:
        """In a process of its own."""
        place = Path(tempfile.mkdtemp("", "", self.folder))
        try:
            return self._made(setting, place)
        finally:
            remove(place)

    def _made(self, setting: Setting, place: Path) -> RunOutcome:
        job, output, log, notes = (place / name for name in ("job.json", "run.json", "log.txt", "notes.jsonl"))
        asked = {
            "run": self.script.job(setting, output),
            "log": str(log),
            "notes": str(notes),
            "folder": str(Path.cwd()),
            "terminal": _terminal(),
            "kind": self.workspace.kind,
            "roots": list(map(str, self.workspace.roots)),
        }
        job.write_text(json.dumps(asked), encoding="utf-8")
        status = self.servers.run(job, self.timeout)
        noted = load_notes(notes)
        outcome = RunOutcome(setting, written=noted.written, unknowable=noted.unknowable)
        if status is None:
            return replace(outcome, failed=f"not done after {self.timeout:g} seconds (--timeout)")
        try:
            run = load(output)
        except BatchproofError:
            return replace(outcome, failed=_why(status, log))
        outcome = replace(outcome, run=run)
        if run.failed or run.status:
            why = run.failed or f"exit status {run.status}"
            return replace(outcome, failed=f"{why}{_where(log)}")
        self.cache.write(outcome, noted.read)
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
