"""One run from start to end: rewrite the script, run it, and put together what was measured."""

from __future__ import annotations

import ast
import builtins
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any

from batchproof.place import Place
from batchproof.run import execute
from batchproof.run.control import Control
from batchproof.run.execute import Ending, Target
from batchproof.run.importing import Finder
from batchproof.run.recorder import Recorder
from batchproof.run.registry import NAME, Registry, Source
from batchproof.run.result import Epoch, Measured, Reported, Run
from batchproof.run.rewrite import rewrite
from batchproof.run.steering import Steering, already_imported
from batchproof.sites import find

#: Files that take long to look through are run as they are.
LONGEST_FILE = 2_000_000


class Session:
    """What is known of a run so far."""

    def __init__(self, target: Target, control: Control, live: Callable[[Measured, Epoch], None] | None = None) -> None:
        self.target = target
        self.control = control
        self.live = live
        self.registry = Registry()
        self.recorder = Recorder(self.registry, self._finish)
        self.recorder.last_weights = control.last_weights
        self.steering = Steering(control, self.recorder)
        self.recorder.on_loader = self.steering.begins
        self.recorder.on_step = self.steering.steps
        self.recorder.on_left = self.steering.ends
        self.epochs: dict[int, list[Epoch]] = {}
        self.sums: dict[int, bool | None] = {}
        self.notes: list[str] = []
        self.seconds = 0.0
        self.process = os.getpid()

    # ------------------------------------------------------------------ before and while it runs

    def run(self) -> Ending:
        """Run the script to its end.

        Raises:
            BatchproofError: it cannot be run at all.
        """
        target = self.target
        source = execute.read(target)
        names = execute.main_module(target)
        code = self.rewritten(source, str(target.path), names.__dict__)
        setattr(builtins, NAME, self.recorder)
        waiting = already_imported(self.steering.watched())
        finder = Finder(target.folder, self.rewritten_module, waiting)
        sys.meta_path.insert(0, finder)
        start = time.perf_counter()
        ending = execute.run(target, code, names)
        self.seconds = time.perf_counter() - start
        self.recorder.end()
        return ending

    def rewritten(self, source: bytes, file: str, names: dict[str, Any]) -> CodeType:
        """The script's code.

        Raises:
            BatchproofError: it is not Python.
        """
        tree = execute.parsed(source, file)
        self._rewrite(tree, source, file, names)
        try:
            return compile(tree, file, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            from batchproof.errors import BatchproofError

            raise BatchproofError(f"{file}{f':{line}' if line else ''}: {getattr(error, 'msg', error)}") from error

    def rewritten_module(self, source: bytes, file: str, names: dict[str, Any]) -> CodeType | None:
        """A module's code; None where nothing in it is measured, or it is not for us to say what is wrong with it."""
        try:
            tree = ast.parse(source, file)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        before = len(self.registry.nodes)
        self._rewrite(tree, source, file, names)
        return compile(tree, file, "exec", dont_inherit=True) if len(self.registry.nodes) > before else None

    def _rewrite(self, tree: ast.Module, source: bytes, file: str, names: dict[str, Any]) -> None:
        if len(source) > LONGEST_FILE:
            self.notes.append(f"{file} is too long to be looked through: it runs as it is")
            return
        lines = source.decode("utf-8", "replace").splitlines()
        rewrite(tree, find(tree), Source(file, lines, names), self.registry, self.control.report)

    # ------------------------------------------------------------------ passes

    def _finish(self, done: Any) -> None:
        from batchproof.run.passes import exact_value, finished, settled_value  # not before the script has imported torch

        number = done.place.number
        exact, is_sum = exact_value(done)
        settled = settled_value(done, exact) if self.control.last_weights else None
        epoch = finished(done, is_sum, settled, exact)
        self.sums[number] = is_sum
        self.epochs.setdefault(number, []).append(epoch)
        if self.live is not None:
            self.live(self.measured(number), epoch)

    # ------------------------------------------------------------------ afterwards

    def measured(self, number: int) -> Measured:
        """What is known of a place."""
        place = self.registry.places[number]
        site = place.site
        origin = getattr(site.added.origin, "lineno", None)
        names = tuple(dict.fromkeys((*site.reported, site.name)))
        return Measured(
            name=names[0],
            accumulator=site.name,
            names=names,
            place=_place(place.source, getattr(site.add, "lineno", place.root.lineno)),
            phase=site.loop.phase.value,
            quantity=site.added.quantity.value,
            is_sum=self.sums.get(number),
            why=site.added.why,
            cause=_place(place.source, origin) if origin is not None else None,
            epochs=tuple(self.epochs.get(number, ())),
        )

    def result(self, ending: Ending) -> Run:
        """All that was measured."""
        rows = [self.measured(number) for number in sorted(self.epochs)]
        rows.sort(key=lambda row: (row.place.file, row.place.line))
        return Run(
            script=" ".join([self.target.typed, *self.target.arguments]),
            measured=tuple(rows),
            control=self.control,
            updates=tuple(self.steering.passes),
            steps=self.recorder.updates,
            learning_rate=self.steering.optimizers.first_rate,
            scheduled=self.steering.optimizers.scheduled,
            loaders=self.steering.loaders.built,
            seconds=self.seconds,
            status=ending.status,
            failed=ending.failed,
            places=len(self.registry.places),
            notes=(*self.notes, *self.steering.loaders.notes),
        )


def _place(source: Source, line: int) -> Place:
    return Place(short(source.file), line, source.line(line))


def short(file: str) -> str:
    """A path relative to here, where it is below."""
    path = Path(file).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
