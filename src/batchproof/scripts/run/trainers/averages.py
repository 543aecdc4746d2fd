"""What adapters of trainers tell, as passes over loaders: batches, values that are added, averages reported.

A pass is known by a key that its adapter chooses, an average by that key and its name.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import FrameType, ModuleType
from typing import Any

from batchproof.scripts.run.filler import RowWatch
from batchproof.scripts.run.formula import Formula, Unmeasured, same_function
from batchproof.scripts.run.origins import NOWHERE
from batchproof.scripts.run.recorder import LoopState, ScriptRecorder, count_samples
from batchproof.scripts.run.registry import NAME, AccumulatorPlace, Kept, LoopPlace, Node, Registry, RewrittenFile
from batchproof.scripts.run.trace import Trace, is_tensor
from batchproof.scripts.source import (
    Added,
    Average,
    AverageSite,
    Divisor,
    EpochLoop,
    Loader,
    Phase,
    Quantity,
    Weight,
    by_name,
)

#: A file and a line of the script.
Position = tuple[RewrittenFile, int]


@dataclass
class _Unit:
    """The micro-batches of one optimizer step, whose losses are parts of one value."""

    number: int
    values: list[Any] = field(default_factory=list)
    batches: list[list[Any]] = field(default_factory=list)
    versions: list[list[int | None]] = field(default_factory=list)
    formula: Formula | None = None
    count: int = 0
    means: list[Any] = field(default_factory=list)  # over targets, where a sum is divided by something else
    targets: list[Any] = field(default_factory=list)

    @property
    def given(self) -> Any:
        """What a mean over the targets of all of it is."""
        if len(self.means) != len(self.values):
            return sum(self.values[1:], self.values[0])
        whole = sum(self.targets[1:], self.targets[0])
        parts = [mean * count for mean, count in zip(self.means, self.targets, strict=True)]
        return sum(parts[1:], parts[0]) / whole


class TrainerAverages:
    """Where adapters of trainers tell what happens.  Nothing here may break the script."""

    def __init__(self, registry: Registry, recorder: ScriptRecorder, note: Callable[[str], None]) -> None:
        self.registry = registry
        self.recorder = recorder
        self.note = note
        self.undo = ExitStack()
        self._loops: dict[object, LoopPlace] = {}
        self._places: dict[object, int] = {}
        self._units: dict[int, _Unit] = {}
        self._watching = False
        self.adapters: dict[str, Any] = {}  # what each of them knows
        self._losses: dict[object, Any] = {}
        self._functions: dict[Any, tuple[Any, int, tuple[int, ...]]] = {}

    def watches(self) -> dict[str, Callable[[ModuleType], Any]]:
        """What to do once modules are imported."""
        from batchproof.scripts.run.trainers import ignite, lightning, transformers

        found: dict[str, Callable[[ModuleType], Any]] = {}
        for adapter in (ignite, lightning, transformers):
            for name, watch in adapter.WATCHES.items():
                found[name] = functools.partial(self._watch, watch)
        return found

    def _watch(self, watch: Callable[[TrainerAverages, ModuleType], None], module: ModuleType) -> None:
        with contextlib.suppress(Exception):  # another version, which has no such class
            watch(self, module)

    def quietly(self, tell: Callable[..., None], *args: Any) -> None:
        """Tell something, whatever comes of it."""
        with contextlib.suppress(Exception):
            tell(*args)

    def in_place_of(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put a function in the place of a trainer's own, until the run ends."""
        own = owner.__dict__[name]
        setattr(owner, name, functools.wraps(own)(make(own)))
        self.undo.callback(setattr, owner, name, own)

    # ------------------------------------------------------------------ passes

    def begins(self, key: object, loader: Any, trains: bool) -> None:
        """A pass over a loader begins.

        Args:
            key: the same for every pass of this kind.
            loader: what its batches come from; None where that is not known.
            trains: whether its batches are trained on.
        """
        state = self._state(key, trains)
        state.loader, state.steps, state.origin = loader, 0, NOWHERE
        state.rows = RowWatch.of(loader)
        self.recorder.on_loader(state.place, loader)

    def step(self, key: object, batch: Any) -> None:
        """The script is about to be called with a batch."""
        self.recorder.step(self._loops[key].number, batch)

    def ends(self, key: object) -> None:
        """A pass is over."""
        loop = self._loops.get(key)
        if loop is not None:
            loop.trains |= self.recorder.updates > self.recorder.loop(loop.number).updates_before
            self.recorder.left(loop.number)

    def has_begun(self, key: object) -> bool:
        """Whether a pass of this kind is being made."""
        return key in self._loops and self.recorder.loops[self._loops[key].number].steps > 0

    def steps(self, key: object) -> int:
        """How many batches a pass has had by now."""
        return self.recorder.loops[self._loops[key].number].steps

    # ------------------------------------------------------------------ values

    def add(
        self, key: object, name: str, value: Any, at: Position, weight: Any = None, unit: int | None = None
    ) -> None:
        """A batch's value is added to an average.

        Args:
            key: the pass.
            name: the average's.
            value: the very object that the script gave.
            at: the line of the script that it is reported by.
            weight: what the trainer multiplies it by.
            unit: of which optimizer step it is a part; None where it is a value by itself.
        """
        place = self._place(key, name, at)
        if unit is not None:
            self._add_part(place, unit, value)
            return
        self.recorder.added(place.number, value)
        if weight is not None:
            self.recorder.weight(place.number, weight)

    def add_of(self, key: object, name: str, value: Any, at: Position, weight: Any, formula: Formula | str,
               batch: list[Any]) -> None:  # fmt: skip
        """A batch's value is added, and the function that gave it is at hand, or the reason why it cannot be used."""
        place = self._place(key, name, at)
        done = self.recorder.open.get(place.number) or self.recorder.opened(place.number, place)
        done.values.append(value)
        done.weights.append(weight)
        done.counts.append(len(batch[0]) if batch else None)
        if isinstance(formula, str):
            done.fails(Unmeasured(formula))
            return
        versions = [None if tensor.is_inference() else tensor._version for tensor in batch]
        done.take(formula, [tensor.detach() for tensor in batch], versions, len(batch[0]))

    def average(self, key: object, name: str, value: Any, weighs: bool = False) -> None:
        """What an average became, as the trainer reports it.

        Args:
            key: the pass.
            name: the average's.
            value: it.
            weighs: whether the trainer may have weighted each batch by its samples: the value tells.
        """
        number = self._places.get((key, name))
        if number is None:
            return
        self._finish_unit(number)
        done = self.recorder.open.get(number)
        if done is not None:
            done.may_weigh |= weighs
            self._compare_targets(done)
            self._note_phase(done.place)
            self.recorder.average(number, 0, value)

    def drop(self, key: object, name: str) -> None:
        """What was added is thrown away."""
        number = self._places.get((key, name))
        if number is not None:
            self._units.pop(number, None)
            self.recorder.drop(number)

    def says(self, key: object, name: str, loss: Any) -> None:
        """Of what function an average is: its name may say why the mean of batches is something else."""
        self._losses[key, name] = loss

    # ------------------------------------------------------------------ parts of a step

    def _add_part(self, place: AccumulatorPlace, number: int, value: Any) -> None:
        recorder = self.recorder
        state = recorder.loops[place.loop]
        unit = self._units.get(place.number)
        if unit is None or unit.number != number:
            self._finish_unit(place.number)
            unit = self._units[place.number] = _Unit(number)
        unit.values.append(value.detach() if is_tensor(value) else value)
        per_target = state.trace.per_target.get(id(value))
        if per_target is not None:
            unit.means.append(per_target[0])
            unit.targets.append(per_target[1])
        done = recorder.open.get(place.number) or recorder.opened(place.number, place)
        if done.problem:
            return
        try:
            count = count_samples(state)
            unit.count += count or 0
            found, batch, versions = recorder.arguments(place, value)
            if unit.formula is not None and not same_function(unit.formula, found):
                raise Unmeasured("the batches of one optimizer step take different ways")
            unit.formula = found
            unit.batches.append(batch)
            unit.versions.append(versions)
            unit.count += 0 if count is not None else len(batch[0])
        except Exception as error:  # noqa: BLE001 - the script goes on
            recorder.give_up(place.number, error)

    def _finish_unit(self, number: int) -> None:
        """An optimizer step is complete: its value, and the batches together."""
        unit = self._units.pop(number, None)
        done = self.recorder.open.get(number)
        if unit is None or done is None:
            return
        done.values.append(sum(unit.values[1:], unit.values[0]))
        done.given = done.given if done.given is not None else []
        done.given.append(unit.given)
        if unit.targets:
            done.targets.append(sum(unit.targets[1:], unit.targets[0]))
        done.counts.append(unit.count or None)
        if done.problem or unit.formula is None:
            return
        import torch

        batch, versions = unit.batches[0], unit.versions[0]
        try:
            if len(unit.batches) > 1:
                batch = [torch.cat(column) for column in zip(*unit.batches, strict=True)]
                versions = [None] * len(batch)
            done.take(unit.formula, batch, versions, unit.count)
        except Exception as error:  # noqa: BLE001 - the script goes on
            self.recorder.give_up(number, error)

    # ------------------------------------------------------------------ losses that a model computes

    def through_model(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what may compute a loss in installed code, and note how."""
        trace = self.recorder.trace
        if trace is None or self._watching or _is_compiling():
            return function(*args, **kwargs)
        from batchproof.scripts.run.model_losses import LossCalls, sizes_of

        calls = LossCalls(sizes_of((args, kwargs)))
        self._watching = True
        try:
            with calls:
                result = function(*args, **kwargs)
        finally:
            self._watching = False
        if self.recorder.trace is trace:
            with contextlib.suppress(Exception):
                self._hand_over(calls, trace, result)
        return result

    def _hand_over(self, calls: Any, trace: Trace, result: Any) -> None:
        """Put the losses that a result holds into the trace."""
        keep = self.recorder.keep
        for found in calls.within(result):
            if id(found.value) in trace.losses:
                continue
            known = self._functions.get(found.loss.key)
            if known is None:
                numbers = [self._node(name) for name in ("loss", *found.loss.names)]
                known = self._functions[found.loss.key] = found.loss, numbers[0], tuple(numbers[1:])
            loss, number, tensors = known
            first = len(trace.numbers)
            keep(number, loss)
            for node, tensor in zip(tensors, found.tensors, strict=True):
                keep(node, tensor)
            if found.per_target is not None:
                trace.per_target[id(found.value)] = found.per_target
            trace.losses[id(found.value)] = found.value, first, tuple(range(first + 1, first + 1 + len(tensors)))

    def _node(self, name: str) -> int:
        number = len(self.registry.nodes)
        self.registry.nodes.append(Node(_MODEL, _stub(number, name, 1), ()))
        return number

    # ------------------------------------------------------------------ places

    def position(self) -> Position | None:
        """The line of the script that leads to here; None where none does."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            source = self.registry.files.get(frame.f_code.co_filename)
            if source is not None:
                return source, frame.f_lineno
            frame = frame.f_back
        return None

    def _state(self, key: object, trains: bool) -> LoopState:
        loop = self._loops.get(key)
        if loop is None:
            at = self.position() or (_MODEL, 1)
            loop = LoopPlace(len(self.registry.loops), at[0], at[1], trains=trains)
            self.registry.loops.append(loop)
            self._loops[key] = loop
        return self.recorder.loop(loop.number)

    def _place(self, key: object, name: str, at: Position) -> AccumulatorPlace:
        number = self._places.get((key, name))
        if number is not None:
            return self.registry.places[number]
        loop = self._loops[key]
        source, line = at
        number = len(self.registry.places)
        node = _stub(number, name, line)
        known = self._logged(source, line, name)
        phase = Phase.TRAINING if loop.trains else Phase.EVALUATION
        made = AverageSite(
            name=name,
            loop=EpochLoop(_LOOP, Loader(None), phase),
            add=known.add if known is not None else node,
            added=replace(known.added, weight=Weight.OTHER) if known else self._added(key, name, node, source),
            averages=(Average(node, Divisor.WEIGHTS),),
            reported=(name,),
        )  # fmt: skip
        place = AccumulatorPlace(number, source, made, loop.number, node, handed=True)
        self.registry.places.append(place)
        loop.sites.append(number)
        self._places[key, name] = number
        return place

    def _added(self, key: object, name: str, node: Kept, source: RewrittenFile) -> Added:
        """What a batch adds, as far as the function's name says it."""
        loss = self._losses.get((key, name))
        told = by_name(getattr(loss, "__name__", type(loss).__name__)) if loss is not None else None
        quantity, why = told if told is not None else (Quantity.UNKNOWN, "")
        code = getattr(loss, "__code__", None)
        is_here = code is not None and code.co_filename == source.file
        origin = ast.Pass(lineno=code.co_firstlineno) if is_here and code is not None else None
        return Added(node, quantity, why, origin, weight=Weight.OTHER)

    def _compare_targets(self, done: Any) -> None:
        """Say it where a sum over targets is divided by another number than that of the targets."""
        if not done.targets or len(done.targets) != len(done.values):
            return
        from batchproof.scripts.run.epochs import as_numbers

        targets = as_numbers(done.targets)
        pairs = zip(as_numbers(done.given), as_numbers(done.values), targets, strict=True)
        more = [(mean / value - 1) * count if value else 0.0 for mean, value, count in pairs]
        if all(abs(each) < 1e-4 * count for each, count in zip(more, targets, strict=True)):
            return
        pairs_of = zip(more, done.counts, targets, strict=True)
        firsts = all(abs(each - (count or 0)) < 1e-3 * total for each, count, total in pairs_of)
        labels = "the number of all labels, among them the first of each sequence, which is no target"
        what = labels if firsts else "another number than that of the targets"
        why = f"the sum over a batch's targets is divided by {what}"
        added = replace(done.place.site.added, quantity=Quantity.UNKNOWN, why=why, origin=None)
        done.place.site = replace(done.place.site, added=added)

    def _note_phase(self, place: AccumulatorPlace) -> None:
        """An engine does not say what it is for; that weights changed does."""
        site = place.site
        phase = Phase.TRAINING if self.registry.loops[place.loop].trains else Phase.EVALUATION
        if site.loop.phase is not phase:
            place.site = replace(site, loop=replace(site.loop, phase=phase))

    def _logged(self, source: RewrittenFile, line: int, name: str) -> AverageSite | None:
        """What was read of the line that hands a value over."""
        found = [
            site
            for file, site in self.registry.logged
            if file == source.file and getattr(site.add, "lineno", 0) <= line <= getattr(site.add, "end_lineno", 0)
        ]
        own = [site for site in found if site.name == name]
        return next(iter(own or (found if len(found) == 1 else [])), None)


#: Stands for a loop that the script does not have.
_LOOP = ast.For(ast.Name("batch", ast.Store()), ast.Name("loader", ast.Load()), [], [], lineno=1, col_offset=0)
#: Stands for the files of installed models.
_MODEL = RewrittenFile("<installed>", [], {})


def _stub(number: int, name: str, line: int) -> Kept:
    """An expression where the script has none."""
    call = ast.parse(f"{NAME}.keep({number}, value)", mode="eval").body
    assert isinstance(call, ast.Call)
    kept = Kept(func=call.func, args=[call.args[0], ast.Name(name, ast.Load())], keywords=[])
    kept.number = number
    for node in ast.walk(kept):
        node.lineno = node.end_lineno = line  # type: ignore[attr-defined]
        node.col_offset = node.end_col_offset = 0  # type: ignore[attr-defined]
    return kept


def _is_compiling() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.compiler.is_compiling())
