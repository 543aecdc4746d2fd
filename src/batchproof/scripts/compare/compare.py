"""The verb: a script run at several batch sizes, and the difference of what it reports split by cause."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.ground.torch_versions import require
from batchproof.ground.validation import whole
from batchproof.scripts.compare import cache as caching
from batchproof.scripts.compare import inputs
from batchproof.scripts.compare.blank import refuse_misspelt
from batchproof.scripts.compare.cache import Cache
from batchproof.scripts.compare.check import check
from batchproof.scripts.compare.comparison import Comparison
from batchproof.scripts.compare.conclude import conclude
from batchproof.scripts.compare.plan import Question
from batchproof.scripts.compare.record import RunOutcome
from batchproof.scripts.compare.scheduler import Progress, ScriptCommand, make, usual_jobs
from batchproof.scripts.compare.workspace import Workspace, kind_of, roots_of
from batchproof.scripts.run import path_of


def compare(
    target: str,
    batch_sizes: Sequence[int],
    arguments: Sequence[str] = (),
    *,
    as_module: bool = False,
    ranks: Sequence[int] = (),
    seeds: int | None = None,
    report: str | None = None,
    epoch: int | None = None,
    controls: bool = True,
    jobs: int | None = None,
    timeout: float | None = None,
    cache: bool = True,
    progress: Progress | None = None,
    own: Sequence[Path] = (),
) -> Comparison:
    """Run a script at several batch sizes, and say why what it reports differs.

    Args:
        target: the script's path, or its name as a module.
        batch_sizes: what to compare; the first is what the others are compared with.
        arguments: of the script; ``{batch_size}`` in them is filled in, and where no argument has one, the batch size
            of every loader is set as it is built.
        as_module: whether the target is a module's name.
        ranks: numbers of processes to compare instead of batch sizes; the one batch size is that of all of them
            together, and each gets its share.
        seeds: how many times to run all of it; by default three times where that takes a minute or two, and once on
            several ranks.
        report: the number that is meant; all that are found, by default.
        epoch: the pass whose number is compared, from 1 on; the last, by default.
        controls: whether to run the script with something held fixed, too: without, real causes are not told apart.
        jobs: how many runs go on at once.
        timeout: seconds that one run may take.
        cache: whether to use runs that were made before, and to keep new ones.
        progress: called with what is run, how many runs are done, and how many there are.
        own: reports that whoever asks will write: no run depends on them.

    Raises:
        BatchproofError: there is nothing to compare, with the reason.
    """
    started = time.monotonic()
    sizes = tuple(dict.fromkeys(whole(size, "a batch size", 1) for size in batch_sizes))
    counts = tuple(dict.fromkeys(whole(count, "--ranks", 1) for count in ranks))
    if counts:
        _refuse_ranks(sizes, counts)
    elif len(sizes) < 2:
        raise BatchproofError("one batch size cannot be compared: give at least two, as in --batch-size 16,64,128")
    refuse_misspelt(arguments)
    script = ScriptCommand(target, tuple(arguments), as_module, report)
    path = _path(script)
    require("batchproof compare")
    if epoch is not None:
        whole(epoch, "--epoch", 1)
    asked = (1 if counts else None) if seeds is None else whole(seeds, "--seeds", 1)
    question = Question(sizes, asked, controls, counts)
    usual = 1 if counts else usual_jobs(sizes)  # ranks share the processors among themselves
    count = usual if jobs is None else whole(jobs, "--jobs", 1)
    roots = roots_of(path)
    workspace = Workspace(roots, kind_of(roots, count))
    kept = cache_of(script, path, workspace, own) if cache and not counts else Cache(None)

    def is_worth_it(outcome: RunOutcome) -> None:
        check(script, outcome, epoch)

    runs = make(script, question, kept, count, timeout, progress, is_worth_it, workspace)
    return conclude(script, question, runs, epoch, time.monotonic() - started)


def _refuse_ranks(sizes: Sequence[int], ranks: Sequence[int]) -> None:
    """Refuse what cannot be compared.

    Raises:
        BatchproofError: what it is, and what to ask instead.
    """
    if not hasattr(os, "fork") or sys.platform == "darwin":
        raise BatchproofError("--ranks needs processes that are forked: run it on Linux")
    if len(ranks) < 2:
        raise BatchproofError("one number of ranks cannot be compared: give at least two, as in --ranks 1,2")
    if len(sizes) != 1:
        raise BatchproofError(
            "--ranks takes one batch size, that of all ranks together, as in --ranks 1,2 --batch-size 64"
        )
    for count in ranks:
        if sizes[0] % count:
            raise BatchproofError(
                f"a batch of {sizes[0]:,} cannot be shared out evenly among {count:,} ranks: give a multiple of it, as "
                f"in --batch-size {math.lcm(*ranks) * max(1, sizes[0] // math.lcm(*ranks)):,}"
            )


def cache_of(script: ScriptCommand, path: Path | None, workspace: Workspace, own: Sequence[Path]) -> Cache:
    """The runs that hold now; none where a run finds what an earlier one left, or there is too much to look through."""
    if workspace.kind == "shared":
        return Cache(None)
    here = Cache(caching.FOLDER)
    ours = here.files_of_ours([*own, *inputs.redirected()])
    folders = (*workspace.roots, *inputs.named_in(path, script.arguments))
    read = inputs.ReadFolders(folders, ours).begin()
    asked = (str(caching.FORMAT), script.target, *script.arguments, "", script.report or "", str(Path.cwd()))
    key = inputs.digest([*asked, str(read.name), "", *inputs.environment(), "", *inputs.installed()])
    return replace(here, key=key, inputs=read) if read.name is not None else Cache(None)


def _path(script: ScriptCommand) -> Path | None:
    """The script's file; None for a module, which is found where it runs.

    Raises:
        BatchproofError: there is none, or it is not Python.
    """
    if script.as_module:
        base = Path(*script.target.split("."))
        return next((path for path in (base.with_suffix(".py"), base / "__main__.py") if path.is_file()), None)
    return path_of(script.target, script.arguments)
