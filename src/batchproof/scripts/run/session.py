"""One run from start to end: rewrite the script, run it, and put together what was measured."""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any

from batchproof.ground.place import short
from batchproof.ground.text import error_line
from batchproof.report.result import from_plain
from batchproof.scripts.run import execute
from batchproof.scripts.run.all_ranks import AllRanks
from batchproof.scripts.run.causes import explain
from batchproof.scripts.run.control import Control
from batchproof.scripts.run.execute import Ending, Finder, Target
from batchproof.scripts.run.interventions import Steering, act_on_imported
from batchproof.scripts.run.observe import Observer
from batchproof.scripts.run.origins import PassOrigin, call_sites
from batchproof.scripts.run.processes import Children, rank, world
from batchproof.scripts.run.recorder import LoopState, ScriptRecorder
from batchproof.scripts.run.registry import NAME, AccumulatorPlace, LoopPlace, Registry, RewrittenFile
from batchproof.scripts.run.result import Epoch, MeasuredAccumulator, Reported, ScriptRun
from batchproof.scripts.run.rewrite import rewrite
from batchproof.scripts.run.rows import FinishedPass, split
from batchproof.scripts.run.trainers.averages import TrainerAverages
from batchproof.scripts.source import find

#: Files that take long to look through are run as they are.
LONGEST_FILE = 2_000_000


class Session:
    """What is known of a run so far."""

    def __init__(
        self, target: Target, control: Control, live: Callable[[MeasuredAccumulator, Epoch], None] | None = None
    ) -> None:
        self.target = target
        self.control = control
        self.live = live
        self.registry = Registry()
        self.recorder = ScriptRecorder(self.registry, self._finish)
        self.recorder.last_weights = control.last_weights
        self.steering = Steering(control, self.recorder)
        self.trainers = TrainerAverages(self.registry, self.recorder, self._note)
        self.observer = Observer(self.registry, "statistics" in control.repairs)
        self.recorder.steers = bool(control.updates)
        self.recorder.on_loader = self._begins
        self.recorder.on_step = self._steps
        self.recorder.on_left = self._ends
        self.passes: dict[int, list[FinishedPass]] = {}  # by the number of their place
        self.unread = 0  # passes whose average was never read
        self.notes: list[str] = []
        self.seconds = 0.0
        self.process = os.getpid()
        self.on_pass: Callable[[], None] = lambda: None
        self.children: Children | None = None
        self.ranks: AllRanks | None = None
        self.unmerged = ""

    # ------------------------------------------------------------------ before and while it runs

    def run(self, output: Path | None = None) -> Ending:
        """Run the script to its end.

        Args:
            output: beside this file, processes that the script starts hand in what they measured.

        Raises:
            BatchproofError: it cannot be run at all.
        """
        target = self.target
        source = execute.read(target)
        names = execute.main_module(target)
        code = self.rewrite_script(source, str(target.path.absolute()), names.__dict__)
        self.ranks = AllRanks.of(output) if output is not None else None
        finder = self.install()
        if output is not None:
            self.children = Children(self, output)
            self.children.watch()
        start = time.perf_counter()
        try:
            ending = execute.run(target, code, names)
            self.seconds = time.perf_counter() - start
            self.recorder.end()
        finally:
            sys.meta_path.remove(finder)
            self.steering.stop()
            self.trainers.undo.close()
            if self.children is not None:
                self.children.stop()
        return ending

    def install(self) -> Finder:
        """Let rewritten code reach the measuring, and modules of the script be rewritten."""
        setattr(builtins, NAME, self.recorder)
        watches = {**self.steering.watches(), **self.trainers.watches()}
        if self.ranks is not None:
            self.ranks.before_end = self.recorder.end
            watches["torch.distributed"] = self.ranks.watch
        finder = Finder(self.target.folder, self.rewrite_module, act_on_imported(watches))
        sys.meta_path.insert(0, finder)
        return finder

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def forget(self) -> None:
        """What was measured so far."""
        self.passes.clear()
        self.recorder.open.clear()

    def rewrite_script(self, source: bytes, file: str, names: dict[str, Any]) -> CodeType:
        """The script's code.

        Raises:
            BatchproofError: it is not Python.
        """
        code = self.rewrite_module(source, file, names)
        return code if code is not None else execute.compiled(source, file)

    def rewrite_module(self, source: bytes, file: str, names: dict[str, Any]) -> CodeType | None:
        """A module's code; None where nothing in it is measured, or it is not for us to say what is wrong with it."""
        before = self.registry.lengths
        try:
            tree = ast.parse(source, file)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        try:
            self._rewrite(tree, source, file, names)
            return compile(tree, file, "exec", dont_inherit=True) if self.registry.lengths > before else None
        except Exception as error:  # noqa: BLE001 - the script runs, whatever we make of its source
            self.registry.cut(before)
            self.notes.append(f"{short(file)} runs as it is, and is not measured ({error_line(error)})")
            return None

    def _rewrite(self, tree: ast.Module, source: bytes, file: str, names: dict[str, Any]) -> None:
        if len(source) > LONGEST_FILE:
            self.notes.append(f"{short(file)} is too long to be looked through: it runs as it is")
            return
        lines = source.decode("utf-8", "replace").splitlines()
        found = find(tree)
        self.recorder.origins.calls[file] = call_sites(tree) if found.sites else {}
        self.notes += rewrite(tree, found, RewrittenFile(file, lines, names), self.registry, self.control.report)

    # ------------------------------------------------------------------ loops and passes

    def _begins(self, loop: LoopPlace, loader: Any) -> Any:
        steered = self.steering.begins(loop, loader)
        with contextlib.suppress(Exception):
            self.observer.begins(loop, loader, self.recorder.loops[loop.number].origin)
        return steered

    def _steps(self, state: LoopState) -> None:
        self.steering.steps(state)
        with contextlib.suppress(Exception):
            self.observer.steps(state)

    def _ends(self, state: LoopState) -> None:
        self.steering.ends(state)
        with contextlib.suppress(Exception):
            self.observer.ends(state, self.recorder.updates - state.updates_before)

    def _finish(self, done: Any) -> None:
        from batchproof.scripts.run.epochs import epoch_of, exact_value, reason, settled_value

        number = done.place.number
        kept = self.ranks.keep(self._key(number, done.origin), done) if self.ranks is not None else None
        exact, is_sum = exact_value(done)
        settled = settled_value(done, exact) if self.control.last_weights else None
        done.duplicates = done.copies or self.observer.duplicates(done.place.loop, done.origin)
        explain(done.place, self.recorder.formulas.get(number, ()))
        epoch = epoch_of(done, is_sum, settled, exact)
        on_sum = self._trained_on_sum(done, is_sum)
        if epoch.printed is None:
            self.unread += 1
            return
        if done.copies:
            self.observer.fills(done.place.loop, done.origin, done.copies)
        epoch = _of_process(epoch)
        if done.batches is not None and done.batches.formula.broadcasts:
            self.observer.broadcasts[number] = done.batches.formula.broadcasts
        found = FinishedPass(epoch, done.origin, reason(done, epoch, is_sum), is_sum, on_sum)
        self.passes.setdefault(number, []).append(found)
        if kept is not None:
            kept.found, kept.is_sum = found, is_sum
        self.on_pass()
        if self.live is not None:
            row = next(row for row in self.accumulators(number) if row.last.printed is epoch.printed)
            self.live(row, row.last)

    def _key(self, number: int, origin: PassOrigin) -> str:
        """A place, and the calls that lead to it, as every process names them."""
        place = self.registry.places[number]
        line = getattr(place.site.add, "lineno", place.root.lineno)
        calls = [instruction for _, instruction in origin.path]
        return repr((place.source.file, line, place.site.name, calls, origin.names, origin.word, origin.words))

    def _trained_on_sum(self, done: Any, is_sum: bool | None) -> bool | None:
        from batchproof.scripts.run.epochs import as_number
        from batchproof.scripts.run.optimizers import trains_on_sum

        roots = self.steering.roots.of(done.place.loop)
        if not roots:
            return None
        values = [as_number(value) for value in done.values]
        return trains_on_sum([as_number(root) for root in roots], values, done.counts, is_sum)

    # ------------------------------------------------------------------ afterwards

    def accumulators(self, number: int) -> list[MeasuredAccumulator]:
        """What was measured at a place: one for each number that it reports."""
        place = self.registry.places[number]
        site = place.site
        origin = getattr(site.added.origin, "lineno", None)
        names = _names(place)
        known = MeasuredAccumulator(
            name=_shown_as(names[0], site.labels),
            accumulator=site.name,
            names=names,
            place=place.source.place(getattr(site.add, "lineno", place.root.lineno)),
            phase=site.loop.phase.value,
            quantity=site.added.quantity.value,
            why=site.added.why,
            cause=place.source.place(origin) if origin is not None and site.added.why else None,
        )
        return split(known, self.passes.get(number, ()))

    def reported_number(self) -> Reported | None:
        """The number that was asked for by name."""
        name = self.control.report
        if name is None or not self.recorder.reported:
            return None
        from batchproof.scripts.run.epochs import as_number

        values = tuple(as_number(value) for _, value in self.recorder.reported)
        source, line = self.registry.reports[self.recorder.reported[-1][0]]
        return Reported(name, values, source.place(line))

    def result_so_far(self) -> ScriptRun:
        """What was measured by now, for the case that there is no end."""
        return self._result(Ending(failed="it was ended"), [])

    def result(self, ending: Ending) -> ScriptRun:
        """All that was measured."""
        if self.ranks is not None and not ending.failed:
            self.ranks.hand_in()
            if rank() == 0 and self.ranks.passes:
                self.unmerged = self.ranks.merge()
        return self._result(ending, self.children.collect() if self.children is not None else [])

    def _result(self, ending: Ending, handed_in: list[ScriptRun]) -> ScriptRun:
        numbered = [(number, row) for number in sorted(self.passes) for row in self.accumulators(number)]
        rows = [row for _, row in numbered] + [row for run in handed_in[:1] for row in run.measured]
        rows.sort(key=lambda row: (row.place.file, row.place.line))
        return ScriptRun(
            script=" ".join([self.target.typed, *self.target.arguments]),
            measured=tuple(rows),
            seen=(*self.observer.observations(numbered), *(seen for run in handed_in[:1] for seen in run.seen)),
            reported=self.reported_number(),
            control=self.control,
            updates=tuple(self.steering.passes),
            steps=self.recorder.updates,
            learning_rate=self.steering.optimizers.first_rate,
            follows_scale=self.steering.optimizers.follows_scale,
            scheduled=self.steering.optimizers.scheduled,
            loaders=self.steering.loaders.built,
            seconds=self.seconds,
            status=ending.status,
            failed=ending.failed,
            places=len(self.registry.places),
            world=max([world(), *(run.world for run in handed_in)]),
            notes=tuple(self._notes(len(handed_in))),
        )

    def _notes(self, processes: int) -> Iterator[str]:
        """What else there is to know, where this number of processes that the script started handed in a result."""
        if self.unmerged or (world() > 1 and self.ranks is None):
            why = f" ({self.unmerged})" if self.unmerged else ""
            yield (
                f"{world()} processes train together: these are the samples of the first{why}; each other wrote its "
                "own file"
            )
        elif processes > 1:
            yield f"measured in {processes} processes that the script started: these are the samples of the first"
        if self.unread and not self.passes:
            yield "batches were added up, and no average of them was read"
        name = self.control.report
        if name is not None and not self.recorder.reported:
            where = "was not reached" if self.registry.reports else "is nowhere assigned, and no key of a log"
            yield f"--report {name}: {name} {where}"
        yield from self._left_to_trainers()
        yield from self.notes
        yield from self.steering.loaders.notes

    def _left_to_trainers(self) -> Iterator[str]:
        """What the script hands to a trainer, and no average of it was seen."""
        seen = {(place.source.file, place.site.add) for place in self.registry.places if place.handed}
        names = [site.name for file, site in self.registry.logged if (file, site.add) not in seen]
        if names:
            yield f"{', '.join(dict.fromkeys(names))}: averaged by a trainer in its own code, and not measured"


def _of_process(epoch: Epoch) -> Epoch:
    """Where several processes train together, a number that they combined cannot be told from one's own samples."""
    if world() == 1:
        return epoch
    combined = (
        epoch.printed is not None
        and epoch.averaged is not None
        and not math.isclose(epoch.printed, epoch.averaged, rel_tol=1e-5)
    )
    reason = "the total is combined with those of other processes, whose samples are not known here"
    return replace(epoch, rank=rank(), **({"exact": None, "reason": reason} if combined else {}))  # type: ignore[arg-type]


def code_for_spawned_process(names: dict[str, Any], told: str) -> CodeType:
    """The script's code for a process that ``multiprocessing`` has spawned, which measures as its parent does."""
    data = json.loads(told)
    path = Path(data["path"])
    target = Target(data["path"], path, None, ())
    session = Session(target, from_plain(Control, data["control"]))
    code = session.rewrite_script(path.read_bytes(), data["path"], names)
    names.update(__file__=data["path"], __spec__=None, __package__=None, __doc__=None)
    session.install()
    session.children = Children(session, Path(data["output"]))
    session.children.hand_in_at_end()
    return code


def _shown_as(name: str, labels: tuple[str, ...]) -> str:
    """A number's name, with what the script prints before it where that is another word: ``loss (total)``."""
    if len(labels) != 1:  # of a function that is called twice
        return name
    printed, own = ("".join(filter(str.isalnum, text.lower())) for text in (labels[0], name))
    return name if printed in own or own in printed else f"{labels[0]} ({name})"


def _names(place: AccumulatorPlace) -> tuple[str, ...]:
    """What a number goes by, the name that its reader knows first; a meter by the meter's own name."""
    site = place.site
    known = [name for name in site.reported if not name.startswith("self.")]
    own = [name.removeprefix("self.") for name in (*site.reported, site.name)]
    names = dict.fromkeys((*known, *([place.meter] if place.meter else []), *own))
    return tuple(sorted(names, key=lambda name: len(name) == 1))  # a letter says less than any other name
