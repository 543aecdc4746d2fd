"""What a run was asked to hold fixed, done: the seed, the batch size, updates, learning rates, evaluation put right."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import ModuleType
from typing import Any

from batchproof.scripts.run.control import Control
from batchproof.scripts.run.loaders import Loaders, LongerLoader, Undo
from batchproof.scripts.run.optimizers import Optimizers, Roots
from batchproof.scripts.run.recorder import LoopState, ScriptRecorder
from batchproof.scripts.run.registry import LoopPlace


class Steering:
    """Acts on loops, loaders and optimizers as the script comes to them."""

    def __init__(self, control: Control, recorder: ScriptRecorder) -> None:
        self.control = control
        self.recorder = recorder
        self.loaders = Loaders(control.batch_size)
        self.optimizers = Optimizers(control.learning_rate, bool(control.updates), self._stepped)
        self.roots = Roots(self._running)
        self.passes: list[int] = []  # updates of each pass over a training loader
        self.undo = ExitStack()  # of what is changed in torch
        self.undo_loop = ExitStack()  # of what is changed for one loop
        self.training = 0  # passes that began

    def watches(self) -> dict[str, Callable[[ModuleType], Any]]:
        """What to do once modules are imported."""
        watches = {
            "torch.optim.optimizer": self.optimizers.watch,
            "torch.utils.data.dataloader": self.loaders.watch,
        }
        if self.control.last_weights:
            watches["torch.autograd"] = self.roots.watch
        found: dict[str, Callable[[ModuleType], Any]] = {
            name: partial(self._watch, watch) for name, watch in watches.items()
        }
        if self.control.seed is not None:
            seed = self.control.seed
            random.seed(seed)
            found["torch"] = lambda torch: torch.manual_seed(seed)
            found["numpy"] = lambda numpy: numpy.random.seed(seed)
        return found

    def _watch(self, watch: Callable[[ModuleType], Undo], module: ModuleType) -> None:
        self.undo.callback(watch(module))

    # ------------------------------------------------------------------ loops

    def begins(self, loop: LoopPlace, loader: Any) -> Any:
        """A loop is about to take its batches."""
        if loop.trains:
            self.training += 1
            self.roots.begins(loop.number)
            if self.control.updates:
                return LongerLoader(loader, lambda: self.recorder.updates, self._wanted())
        elif "tail" in self.control.repairs:
            self._whole(loader)
        return loader

    def steps(self, state: LoopState) -> None:
        """A loop's body begins."""
        if self.control.updates and state.place.trains:
            self.optimizers.frozen = self.recorder.updates - state.updates_before >= self._wanted()

    def ends(self, state: LoopState) -> None:
        """A loop is over."""
        self.optimizers.frozen = False
        if state.place.trains:
            self.passes.append(self.recorder.updates - state.updates_before)
        self.undo_loop.close()

    def _wanted(self) -> int:
        """Updates in this training pass."""
        updates = self.control.updates
        return updates[min(max(self.training, 1), len(updates)) - 1]

    def stop(self) -> None:
        """Leave torch as it was."""
        self.undo.close()

    def _running(self) -> int | None:
        """The loop that runs."""
        return self.recorder.running[-1].place.number if self.recorder.running else None

    def _stepped(self) -> None:
        self.recorder.updates += 1
        if self.control.updates and self.recorder.running:
            self.steps(self.recorder.running[-1])

    def _whole(self, loader: Any) -> None:
        """Let an evaluation loader give its short last batch, until the loop ends."""
        batches = getattr(loader, "batch_sampler", None)
        if getattr(batches, "drop_last", False) is True:
            assert batches is not None
            batches.drop_last = False
            self.undo_loop.callback(setattr, batches, "drop_last", True)


def act_on_imported(watches: dict[str, Callable[[ModuleType], Any]]) -> dict[str, Callable[[ModuleType], Any]]:
    """Do what is to be done for modules that are there already; what remains to wait for."""
    for name in list(watches):
        if name in sys.modules:
            watches.pop(name)(sys.modules[name])
    return watches
