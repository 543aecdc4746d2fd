"""What only a run shows: samples drawn twice, batches skipped, BatchNorm left in training mode, shapes that broadcast.

Nothing is watched that costs time in every step: samplers are looked at where they may repeat a sample, and a model's
modules when a loop has ended.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from batchproof.ground.text import counted
from batchproof.scripts.run.loaders import NotingSampler, left_out, may_draw_twice, padding
from batchproof.scripts.run.recorder import LoopState
from batchproof.scripts.run.registry import LoopPlace, Registry
from batchproof.scripts.run.result import MeasuredAccumulator, Observation
from batchproof.scripts.run.trace import is_a

_READS = ("item", "cpu", "tolist", "numpy")


@dataclass
class LoopFacts:
    """What one loop has shown, in its last pass."""

    place: LoopPlace
    steps: int = 0
    updates: int = 0
    twice: int = 0
    drawn: int = 0
    padded: int = 0
    left_out: int = 0
    norms: set[str] = field(default_factory=set)


class Observer:
    """Looks on as the script comes to its loops."""

    def __init__(self, registry: Registry, repair_norms: bool) -> None:
        self.registry = registry
        self.repair_norms = repair_norms
        self.loops: dict[int, LoopFacts] = {}
        self.broadcasts: dict[int, str] = {}  # by place: the shapes
        self._drawn: dict[int, tuple[Any, NotingSampler]] = {}
        self._hook: Any = None
        self._switched: list[Any] = []

    def begins(self, loop: LoopPlace, loader: Any) -> None:
        """A loop is about to take its batches."""
        facts = self._facts(loop)
        facts.padded = padding(loader)
        facts.left_out = left_out(loader)
        if may_draw_twice(loader):
            batches = loader.batch_sampler
            drawn = NotingSampler(batches.sampler)
            batches.sampler = drawn
            self._drawn[loop.number] = batches, drawn

    def steps(self, state: LoopState) -> None:
        """A loop's body begins."""
        if state.steps == 1 and self.repair_norms and not state.place.trains:
            self._repair_modules()

    def ends(self, state: LoopState, updates: int) -> None:
        """A loop is over."""
        self._restore_modules()
        facts = self._facts(state.place)
        if not state.place.trains:
            self._look_at_modules(state, facts)
        facts.steps, facts.updates = state.steps, updates
        held = self._drawn.pop(state.place.number, None)
        if held is not None:
            sampler, drawn = held
            sampler.sampler = drawn._own
            facts.twice, facts.drawn = drawn.twice, len(drawn.indices)

    def duplicates(self, loop: int) -> int:
        """Samples of a loop's last pass that came twice."""
        facts = self.loops.get(loop)
        return max(facts.twice, facts.padded) if facts is not None else 0

    def _facts(self, loop: LoopPlace) -> LoopFacts:
        return self.loops.setdefault(loop.number, LoopFacts(loop))

    # ------------------------------------------------------------------ modules

    def _look_at_modules(self, state: LoopState, facts: LoopFacts) -> None:
        """Which of the modules that an evaluation loop has used take statistics of their batch."""
        for value in state.trace.values:
            if is_a(value, "torch.nn", "Module"):
                found = (part for part in value.modules() if _is_norm(part) and part.training)
                facts.norms.update(type(part).__name__ for part in found)

    def _repair_modules(self) -> None:
        """Let such modules use what they learned, as they are called, until the loop ends."""
        torch = sys.modules.get("torch")
        if torch is None or self._hook is not None:
            return

        def repair(module: Any, arguments: Any) -> None:
            if module.training and _is_norm(module):
                module.training = False
                self._switched.append(module)

        self._hook = torch.nn.modules.module.register_module_forward_pre_hook(repair)

    def _restore_modules(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        while self._switched:
            self._switched.pop().training = True

    # ------------------------------------------------------------------ in words

    def observations(self, rows: list[tuple[int, MeasuredAccumulator]]) -> Iterator[Observation]:
        """All of it; ``rows`` are what was measured, by the number of its place."""
        for facts in self.loops.values():
            if facts.steps:
                yield from self._of_loop(facts)
        for number, row in rows:
            yield from self._of_row(self.registry.places[number].loop, row)
            if number in self.broadcasts:
                what = f"shapes {self.broadcasts[number]} broadcast: every sample is compared with every other one"
                yield Observation(
                    "broadcast", what, row.place, False, "give both the same shape: squeeze(1) one of them"
                )

    def _of_loop(self, facts: LoopFacts) -> Iterator[Observation]:
        place = facts.place.source.place(facts.place.line)
        if facts.place.trains:
            yield Observation("updates", self._updates(facts), place)
            if reads := self._reads(facts.place):
                what = f"{reads} value{'s are' if reads > 1 else ' is'} read on the host in every step"
                yield Observation("reads", f"{what}: on a GPU each read waits for it", place)
        if facts.norms:
            what = f"{' and '.join(sorted(facts.norms))} in training mode: each sample's output depends on its batch"
            yield Observation("statistics", what, place, False, "call model.eval() before the loop")
        if facts.twice:
            what = f"the sampler drew {facts.twice:,} of {facts.drawn:,} samples that it had drawn before"
            harmless = facts.place.trains
            yield Observation(
                "duplicates", what, place, harmless, "" if harmless else "evaluate with a sampler that repeats none"
            )
        if facts.padded and not facts.place.trains:
            what = f"DistributedSampler repeats {counted(facts.padded, 'sample')} so that all processes get as many"
            yield Observation(
                "duplicates", what, place, False, "count each sample once, as with ids or an unpadded sampler"
            )

        if facts.left_out and not facts.place.trains:
            what = f"the loader drops its short last batch: {counted(facts.left_out, 'sample')} left out"
            yield Observation("dropped", what, place, False, "evaluate with drop_last=False")

    def _updates(self, facts: LoopFacts) -> str:
        steps, updates = facts.steps, facts.updates
        if updates == 0:
            return f"no optimizer step in {counted(steps, 'batch')}"
        if updates == steps:
            return f"{counted(updates, 'optimizer step')} in a pass, one for each batch"
        every = f": one for every {steps / updates:.3g} batches, which accumulate gradients" if updates < steps else ""
        return f"{counted(updates, 'optimizer step')} in a pass of {counted(steps, 'batch')}{every}"

    def _reads(self, loop: LoopPlace) -> int:
        found = 0
        for number in loop.sites:
            root = self.registry.places[number].site.added.node
            found += any(
                isinstance(node, ast.Call)
                and (getattr(node.func, "attr", "") in _READS or getattr(node.func, "id", "") == "float")
                for node in ast.walk(root)
            )
        return found

    def _of_row(self, loop: int, row: MeasuredAccumulator) -> Iterator[Observation]:
        last = row.last
        if last.undefined:
            what = (
                f"{last.undefined:,} of {last.batches:,} batches added a value to {row.accumulator} that is not finite"
            )
            yield Observation("undefined", what, row.place, False)
        facts = self.loops.get(loop)
        if last.steps > last.batches and facts is not None and facts.place.takes:
            skipped = last.steps - last.batches
            what = f"{skipped:,} of {last.steps:,} batches did not reach {row.accumulator}"
            yield Observation("skipped", what, row.place, False)
        elif facts is not None and last.loader is not None and 0 < last.steps < last.loader and not facts.place.trains:
            what = f"the loop ended after {last.steps:,} of the loader's {last.loader:,} batches"
            yield Observation("skipped", what, row.place)


def _is_norm(module: Any) -> bool:
    return is_a(module, "torch.nn.modules.batchnorm", "_BatchNorm")
