"""Run many programs in worker processes, so that a crash is found, named by its seed, and ends nothing.

A worker prints a line before each program and one with its ends after it; where it dies or says nothing for too long,
the program that it had begun is the finding, and another worker goes on behind it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .program import Program

#: Seconds after which a silent worker is given up.
PATIENCE = 240
CHUNK = 100


@dataclass
class Tally:
    """Counts of ends, and what was found."""

    programs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    gradients: Counter[str] = field(default_factory=Counter)
    heads: Counter[str] = field(default_factory=Counter)
    found: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def take(self, report: dict[str, Any]) -> None:
        self.programs += 1
        self.heads[report.get("head", "?")] += 1
        for end in report["ends"]:
            (self.gradients if end["way"] == "gradient" else self.ends)[end["kind"]] += 1
            if end["kind"].startswith("refused"):
                self.reasons[end["what"][:70]] += 1
        self.found += report["found"]

    def table(self) -> str:
        lines = [f"{self.programs:,} programs, {self.ends.total():,} streams, {self.gradients.total():,} gradients"]
        for name, counts in (("streams", self.ends), ("gradients", self.gradients)):
            lines += [f"  {name:<10} {kind:<20} {count:>9,}" for kind, count in counts.most_common()]
        lines += ["refusals, most frequent first:"]
        lines += [f"  {count:>7,}  {reason}" for reason, count in self.reasons.most_common(12)]
        lines += [f"found: {len(self.found)}"]
        return "\n".join(lines)


def examined(program: Program, shrink_s: float) -> dict[str, Any]:
    """A program's ends, and the first fault of its streams made small, the first of its gradients as it is."""
    from .gradients import gradient_trials
    from .shrink import shrunk_by_stream
    from .trial import plan_of_trials, trials

    streams, gradients = trials(program), gradient_trials(program)
    seed, found = program.seed, []
    for end, (_, _, state) in zip(streams, plan_of_trials(program), strict=True):
        if end.fault:
            small, now = shrunk_by_stream(program, end, state, shrink_s)
            found.append({"seed": seed, **asdict(now), "state": state, "script": small.script()})
            break
    found += [{"seed": seed, **asdict(end), "script": program.script()} for end in gradients if end.fault][:1]
    head = f"{program.data.kind}/{program.data.late}"
    return {"seed": seed, "head": head, "ends": [asdict(end) for end in (*streams, *gradients)], "found": found}


def work(seeds: Sequence[int], make: Callable[[int], Any], examine: Callable[[Any], dict[str, Any]]) -> None:
    """What a worker process does: it says which seed it begins, what it made of it, and how that ended."""
    import faulthandler
    import warnings

    import torch

    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no report
    faulthandler.enable()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for seed in seeds:
        print(json.dumps({"begins": seed}), file=told, flush=True)
        made = make(seed)
        print(json.dumps({"script": made.script()}), file=told, flush=True)
        print(json.dumps(examine(made)), file=told, flush=True)


def reports(seeds: Sequence[int], options: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The report on every seed, by as many worker processes, one after the other, as it takes."""
    left = list(seeds)
    while left:
        worker, last = Worker(left, options), dict[str, Any]()
        for report in worker.reports():
            if "ends" not in report:
                last |= report
            else:
                left.remove(report["seed"])
                last = {}
                yield report
        if left:  # it died
            seed = last.get("begins", left[0])
            left.remove(seed)
            yield _died(seed, last.get("script", ""), worker.process.returncode, worker.said)


class Worker:
    """A process that tries seeds one after the other."""

    def __init__(self, seeds: Sequence[int], options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "tests.search", "--worker", ",".join(map(str, seeds)), *options]
        self.process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def reports(self) -> Iterator[dict[str, Any]]:
        """What it says, until it ends or is silent for too long."""
        with self.process as process:
            listener = threading.Thread(target=self._listen)
            listener.start()
            watch = _watch(process)
            for line in process.stdout or ():
                watch.cancel()
                watch = _watch(process)
                yield json.loads(line)
            watch.cancel()
            listener.join()

    def _listen(self) -> None:
        self.said.extend(self.process.stderr or ())


def _watch(process: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(PATIENCE, process.kill)
    timer.daemon = True
    timer.start()
    return timer


def _died(seed: int, script: str, status: int | None, said: list[str]) -> dict[str, Any]:
    kind = "hang" if status == -9 else "crash"
    what = f"the process ended with status {status}: " + "".join(said)[:1500]
    end = {"kind": kind, "partition": "?", "way": "?", "what": what}
    return {"seed": seed, "ends": [end], "found": [{"seed": seed, **end, "script": script}]}


def search(seeds: Sequence[int], workers: int, options: Sequence[str] = (), finds: Path | None = None) -> Tally:
    """Try the programs of these seeds, or these cells of the grid."""
    tally, lock, start = Tally(), threading.Lock(), time.monotonic()

    def chunk(some: Sequence[int]) -> None:
        for report in reports(some, options):
            with lock:
                tally.take(report)
                if finds is not None and report["found"]:
                    with finds.open("a") as file:
                        file.writelines(shown(found) for found in report["found"])
                if tally.programs % 25 == 0 or report["found"]:
                    _progress(tally, len(seeds), time.monotonic() - start)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(chunk, [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]))
    return tally


def shown(found: dict[str, Any]) -> str:
    where = f"{found['partition']}, {found['way']}" + (", state='rows'" if found.get("state") == "rows" else "")
    return f"\n## seed {found['seed']}: {found['kind']} ({where})\n{found['what']}\n```python\n{found['script']}```\n"


def _progress(tally: Tally, total: int, seconds: float) -> None:
    print(
        f"{tally.programs:,} of {total:,} programs in {seconds:,.0f} s, {len(tally.found)} found",
        file=sys.stderr,
        flush=True,
    )
