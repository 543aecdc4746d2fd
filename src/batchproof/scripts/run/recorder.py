"""What a rewritten script calls as it runs.  Values pass through unchanged; nothing here may break the script."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchproof.scripts.run.filler import RowWatch
from batchproof.scripts.run.formula import Formula, Unmeasured
from batchproof.scripts.run.formula_builder import formula, formula_of, predictions
from batchproof.scripts.run.origins import NOWHERE, PassOrigin, PassOrigins
from batchproof.scripts.run.registry import AccumulatorPlace, LoopPlace, Registry, part_of
from batchproof.scripts.run.trace import Trace, dimension_of, is_tensor, samples_of
from batchproof.scripts.source import Weight

#: Ways through a loop's body that are followed back before a place is given up.
MOST_FORMULAS = 24
#: Values kept in one pass through a loop's body, beyond which something else runs.
MOST_KEPT = 20_000
#: Keys of a table that are told apart.
MOST_KEYS = 100


@dataclass
class LoopState:
    """A loop that runs, or ran last."""

    place: LoopPlace
    trace: Trace = field(default_factory=Trace)
    loader: Any = None
    steps: int = 0
    counted: bool = False
    updates_before: int = 0
    origin: PassOrigin = NOWHERE
    rows: RowWatch = field(default_factory=lambda: RowWatch(known=0))


@dataclass
class _Asked:
    """Whether torch is looking through a function now: it is to see nothing of us.  False until torch is there."""

    is_compiling: Callable[[], bool] = lambda: False


_asked = _Asked()


class ScriptRecorder:
    """Takes notes while a script runs.

    Attributes:
        finish: what is called with each pass that has ended; it may take its time.
        updates: optimizer steps so far.
    """

    def __init__(self, registry: Registry, finish: Callable[[Any], None]) -> None:
        self.registry = registry
        self.finish = finish
        self.updates = 0
        self.running: list[LoopState] = []
        self.loops: dict[int, LoopState] = {}
        self.open: dict[int, Any] = {}
        self.passes: dict[int, int] = {}
        self.formulas: dict[int, list[Formula]] = {}
        self.given_up: dict[int, str] = {}
        self.pending: dict[int, Any] = {}
        self.meters: dict[int, Any] = {}
        self.on_loader: Callable[[LoopPlace, Any], Any] = lambda loop, loader: loader
        self.on_step: Callable[[LoopState], None] = lambda state: None
        self.on_left: Callable[[LoopState], None] = lambda state: None
        self.reported: list[tuple[int, Any]] = []
        self.origins = PassOrigins()
        self._trace: Trace | None = None
        self._tensor: Any = None
        self._usual: dict[int, tuple[Any, LoopState, Formula]] = {}
        self._parts: dict[int, dict[Any, int]] = {}  # by place: those of its keys
        self._current: dict[int, int] = {}  # by place: that of the key that came last
        self.steers = False  # whether every step is to be told
        self.last_weights = False

    def __call__(self) -> None:
        """Does nothing: a builtin that is not callable is none that ``torch.compile`` can look through."""

    # ------------------------------------------------------------------ values on their way

    def keep(self, number: int, value: Any) -> Any:
        """An expression's value."""
        trace = self._trace if not _asked.is_compiling() else None
        if trace is not None:
            if len(trace.numbers) > MOST_KEPT:
                trace.clear()
            trace.numbers.append(number)
            trace.values.append(value)
            if type(value) is self._tensor:
                try:
                    trace.versions.append(value._version)
                except Exception:  # noqa: BLE001 - made in inference mode, or a stand-in: nothing counts its writes
                    trace.versions.append(None)
            else:
                trace.versions.append(None)
        return value

    def added(self, number: int, value: Any) -> Any:
        """What a batch adds, evaluated just now."""
        if _asked.is_compiling():
            return value
        if isinstance(value, dict):
            self._added_table(number, value)
            return value
        try:
            usual = self._usual.get(number)
            if usual is None or not self._added_as_usual(number, value, *usual):
                self._added(number, value)
        except Exception as error:  # noqa: BLE001 - the script goes on
            self.give_up(number, error)
        return value

    def added_under(self, number: int, key: Any, value: Any) -> Any:
        """What a batch adds under a key."""
        if _asked.is_compiling():
            return value
        part = self._part(number, key)
        if number in self.pending:
            self.pending[part] = self.pending.pop(number)
        self._current[number] = part
        return self.added(part, value)

    def weight_before(self, number: int, value: Any) -> Any:
        """What the next value is multiplied by."""
        if _asked.is_compiling():
            return value
        self.pending[number] = value
        return value

    def weight(self, number: int, value: Any) -> Any:
        """What the last value is multiplied by."""
        if _asked.is_compiling():
            return value
        done = self.open.get(self._current.get(number, number))
        if done is not None and len(done.weights) == len(done.values) - 1:
            done.weights.append(value)
        return value

    def average(self, number: int, index: int, value: Any) -> Any:
        """The accumulator after its division."""
        if _asked.is_compiling():
            return value
        if number in self._parts:
            self._average_table(number, index, value)
        done = self.open.get(number)
        if done is not None and done.values:
            site = self.registry.places[number].site
            average = site.averages[index]
            printed = self._entry_of(done, value) if isinstance(value, dict) else value
            if index in done.place.shared and not (done.place.meter or self._is_of(done, printed)):
                return value
            if not average.window and printed is not None:
                done.printed, done.after, done.divisor = printed, average.after, average.divisor
                if not average.inside:
                    self._close(number)
        return value

    def average_under(self, number: int, index: int, key: Any, value: Any) -> Any:
        """The accumulator under a key after its division."""
        part = self._parts.get(number, {}).get(key) if _is_key(key) else None
        if part is None:
            return self.average(number, index, value)
        return self.average(part, index, value)

    def average_of_pair(self, number: int, index: int, pair: tuple[Any, Any]) -> None:
        """The accumulator under a key, after a statement that divides it in place."""
        self.average_under(number, index, *pair)

    def meter(self, number: int, value: Any) -> Any:
        """The object that takes what a batch adds."""
        if _asked.is_compiling():
            return value
        self.meters[number] = value
        return value

    def average_of(self, number: int, index: int, meter: Any, value: Any) -> Any:
        """An average in a method of a class that has several objects: only the one that is measured counts."""
        return self.average(number, index, value) if self.meters.get(number) is meter else value

    def start_of(self, number: int, meter: Any) -> None:
        """A start in a method of a class that has several objects: only the one that is measured counts."""
        if self.meters.get(number) is meter:
            self.start(number)

    def report(self, number: int, value: Any) -> Any:
        """A number that was asked for by name."""
        if _asked.is_compiling():
            return value
        self.reported.append((number, value.detach() if is_tensor(value) else value))
        return value

    # ------------------------------------------------------------------ loops

    def loader(self, number: int, words: tuple[Any, ...], value: Any) -> Any:
        """What a loop takes its batches from, before it begins."""
        if _asked.is_compiling():
            return value
        state = self.loop(number)
        state.loader, state.steps = value, 0
        self._note_origin(state, sys._getframe(1), words)
        if state.place.sites:
            state.rows = RowWatch.of(value)
        return self.on_loader(state.place, value)

    def step(self, number: int, target: Any) -> None:
        """The loop's body begins."""
        if _asked.is_compiling():
            return
        state = self.loop(number)
        if not self.running or self.running[-1] is not state:
            self._enter(state)
        state.trace.clear()
        state.trace.target = target
        if state.steps == 0:
            if state.place.node_is_while:
                self._note_origin(state, sys._getframe(1), ())
            state.updates_before = self.updates
            torch = sys.modules.get("torch")
            if torch is not None and self._tensor is None:
                self._tensor, _asked.is_compiling = torch.Tensor, torch.compiler.is_compiling
        state.steps += 1
        state.counted = False
        if state.steps <= 2 or self.steers:
            self.on_step(state)

    def stepped(self, number: int, target: Any) -> bool:
        """The body of a comprehension begins; true, as its condition."""
        self.step(number, target)
        return True

    def left_with(self, number: int, value: Any) -> Any:
        """A comprehension has ended; its value is handed on."""
        self.left(number)
        return value

    def left(self, number: int) -> None:
        """The loop has ended."""
        if _asked.is_compiling():
            return
        state = self.loop(number)
        if state in self.running:
            del self.running[self.running.index(state) :]
        self._trace = self.running[-1].trace if self.running else None
        self.on_left(state)
        state.trace.clear()
        state.trace.target = None
        for place in state.place.sites:
            done = self.open.get(place)
            if done is None:
                continue
            self._note(done, state)
            averages = self.registry.places[place].site.averages
            if done.printed is not None and all(average.inside for average in averages):
                self._close(place)
        state.loader, state.steps = None, 0

    def start(self, number: int) -> None:
        """The accumulator has its first value."""
        if _asked.is_compiling():
            return
        for each in (number, *self._parts.get(number, {}).values()):
            if each in self.open:
                self._close(each)

    def end(self) -> None:
        """The script has ended."""
        for number in list(self.open):
            self._close(number)

    # ------------------------------------------------------------------ tables, key by key

    def _part(self, number: int, key: Any, of_table: bool = False) -> int:
        """The place of what a place adds under one key."""
        parts = self._parts.setdefault(number, {})
        if not _is_key(key):
            return number
        if key not in parts:
            whole = self.registry.places[number]
            if len(parts) >= MOST_KEYS:
                return number
            parts[key] = len(self.registry.places)
            self.registry.places.append(part_of(whole, parts[key], str(key), of_table))
            self.registry.loops[whole.loop].sites.append(parts[key])
        return parts[key]

    def _added_table(self, number: int, table: dict[Any, Any]) -> None:
        """What a batch adds is a table of numbers: each counts by itself."""
        for key, value in table.items():
            part = self._part(number, key, of_table=True)
            if part != number and (is_tensor(value) or isinstance(value, (int, float))):
                self.added(part, value)

    def _average_table(self, number: int, index: int, value: Any) -> None:
        """The averages of several keys at once; or one, of that key whose values it is an average of."""
        parts = self._parts[number]
        if isinstance(value, dict):
            for key, part in parts.items():
                if key in value:
                    self.average(part, index, value[key])
            return
        own = [part for part in parts.values() if part in self.open and self._is_of(self.open[part], value)]
        if len(own) == 1:
            self.average(own[0], index, value)

    # ------------------------------------------------------------------ how it works

    @property
    def trace(self) -> Trace | None:
        """Of the loop that runs."""
        return self._trace

    def drop(self, number: int) -> None:
        """Forget a pass that is open."""
        self.open.pop(number, None)
        self._usual.pop(number, None)

    def _is_of(self, done: Any, value: Any) -> bool:
        """Whether an average is that of this accumulator: told by what was added."""
        try:
            from batchproof.scripts.run.epochs import is_average

            return is_average(done, value)
        except Exception:  # noqa: BLE001 - what is no number is no average
            return False

    def _entry_of(self, done: Any, table: dict[Any, Any]) -> Any:
        """Of several averages by name, the one that is of this accumulator; None where there is none."""
        return next((value for value in table.values() if self._is_of(done, value)), None)

    def _note_origin(self, state: LoopState, frame: Any, words: tuple[Any, ...]) -> None:
        """Which call the pass comes from."""
        if state.place.sites:
            with contextlib.suppress(Exception):
                state.origin = self.origins.of(
                    frame, state.loader, tuple(zip(state.place.variables, words, strict=False))
                )

    def loop(self, number: int) -> LoopState:
        """What is known of a loop."""
        state = self.loops.get(number)
        if state is None:
            state = self.loops[number] = LoopState(self.registry.loops[number])
            state.trace.takes = state.place.takes
        return state

    def _enter(self, state: LoopState) -> None:
        if state in self.running:
            del self.running[self.running.index(state) + 1 :]
        else:
            self.running.append(state)
        self._trace = state.trace

    def _added_as_usual(self, number: int, value: Any, done: Any, state: LoopState, found: Formula) -> bool:
        """Take in a batch that came the same way as the one before it; False, and nothing done, where it did not."""
        trace = state.trace
        if found.numbers != trace.numbers:
            return False
        for index, fixed in found.fixed:
            if trace.values[index] is not fixed:
                return False
        batch, versions = _arguments(trace, found)
        counted = count_samples(state)
        count = counted if counted is not None else batch[0].shape[0]
        done.values.append(value.detach() if type(value) is self._tensor else value)
        done.counts.append(count)
        if number in self.pending:
            done.weights.append(self.pending.pop(number))
        done.batches.add(batch, versions, count)
        return True

    def _added(self, number: int, value: Any) -> None:
        place = self.registry.places[number]
        done = self.open.get(number) or self.opened(number, place)
        state = self.loop(place.loop)
        done.values.append(value.detach() if is_tensor(value) else value)
        done.counts.append(count_samples(state))
        if place.site.added.weight is not Weight.NONE and number in self.pending:
            done.weights.append(self.pending.pop(number))
        if not done.problem:
            self._take(number, place, done, state, value)

    def _take(self, number: int, place: AccumulatorPlace, done: Any, state: LoopState, value: Any) -> None:
        if number in self.given_up:
            done.problem = self.given_up[number]
            return
        trace = state.trace
        found = self._known(number, trace) or self._learn(number, place, trace, value)
        batch, versions = _arguments(trace, found)
        if done.counts[-1] is None:
            done.counts[-1] = batch[0].shape[0]
        done.take(found, batch, versions, done.counts[-1])
        if done.batches is not None and done.batches.formula is found and not self.last_weights:
            self._usual[number] = done, state, found
        wanted = done.inputs is not None or len(done.values) == 1
        if self.last_weights and wanted and state.place.trains and not done.problem:
            self._inputs(done, found, trace)

    def _inputs(self, done: Any, found: Formula, trace: Trace) -> None:
        """What the batch was computed from, for a second forward pass."""
        from batchproof.scripts.run.pooled import BatchInputs

        predict = done.inputs.predict if done.inputs is not None else None
        if predict is None or predict.numbers != trace.numbers or not _has(trace, predict):
            try:
                predict = predictions(self.registry, trace, found)
            except Unmeasured:
                return
            if done.inputs is None:
                done.inputs = BatchInputs(predict, found)
        if done.inputs is not None:
            done.inputs.add(predict, tuple([trace.values[index].detach() for index in predict.arguments]))

    def _known(self, number: int, trace: Trace) -> Formula | None:
        for found in self.formulas.get(number, ()):
            if found.numbers == trace.numbers and _has(trace, found):
                return found
        return None

    def arguments(self, place: AccumulatorPlace, value: Any) -> tuple[Formula, list[Any], list[int | None]]:
        """The function that gave a value in the loop's body, what it took, and how often that had been written to.

        Raises:
            Unmeasured: there is none that could be called again.
        """
        if place.number in self.given_up:
            raise Unmeasured(self.given_up[place.number])
        trace = self.loop(place.loop).trace
        found = self._known(place.number, trace) or self._learn(place.number, place, trace, value)
        return found, *_arguments(trace, found)

    def _learn(self, number: int, place: AccumulatorPlace, trace: Trace, value: Any) -> Formula:
        known = self.formulas.setdefault(number, [])
        if len(known) >= MOST_FORMULAS:
            raise Unmeasured("every batch takes another way through the loop")
        found = formula_of(self.registry, trace, value) if place.handed else formula(self.registry, trace, place.root)
        known.append(found)
        return found

    def give_up(self, number: int, error: BaseException) -> None:
        """There will be no exact value for a place."""
        from batchproof.scripts.run.evaluate import reason

        why = reason(error)
        self.given_up[number] = why
        self._usual.pop(number, None)
        if number in self.open:
            self.open[number].fails(Unmeasured(why))

    def opened(self, number: int, place: AccumulatorPlace) -> Any:
        """A pass of an accumulator that begins."""
        from batchproof.scripts.run.epochs import Pass

        self.passes[number] = self.passes.get(number, 0) + 1
        done = self.open[number] = Pass(place, self.passes[number], origin=self.loop(place.loop).origin)
        done.rows = self.loop(place.loop).rows
        done.may_weigh = place.may_weigh
        return done

    def _note(self, done: Any, state: LoopState) -> None:
        """What the loop knows of a pass."""
        done.ended = True
        done.steps = state.steps
        done.across = state.trace.along != 0
        done.updates = self.updates - state.updates_before
        done.loader = _length(state.loader)
        done.dataset = _length(getattr(state.loader, "dataset", None))

    def _close(self, number: int) -> None:
        done = self.open.pop(number)
        self._usual.pop(number, None)
        if not done.ended:
            self._note(done, self.loop(done.place.loop))
        if done.values:
            try:
                self.finish(done)
            except Exception as error:  # noqa: BLE001 - the script goes on
                self.give_up(number, error)


def count_samples(state: LoopState) -> int | None:
    """How many samples the loop's batch has: counted once, however many values are added of it."""
    trace = state.trace
    if not state.counted:
        if state.steps == 1:
            trace.along = dimension_of(trace.target, getattr(state.loader, "batch_size", None))
        trace.count, state.counted = samples_of(trace.target, trace.along), True
        if state.rows.known is None:
            state.rows.note(trace.target)
    return trace.count


def _arguments(trace: Trace, found: Formula) -> tuple[list[Any], list[int | None]]:
    """What the formula's function takes of a batch, and how often each had been written to."""
    batch = [trace.values[index] for index in found.arguments]
    versions = [trace.versions[index] for index in found.arguments]
    return [tensor.detach() if tensor.requires_grad else tensor for tensor in batch], versions


def _has(trace: Trace, found: Formula) -> bool:
    """Whether what must be the same for every batch is the same."""
    for index, value in found.fixed:
        now = trace.values[index]
        if now is not value and not (type(now) is type(value) and isinstance(now, (int, float, str)) and now == value):
            return False
    return True


def _length(thing: Any) -> int | None:
    try:
        return len(thing)
    except Exception:  # noqa: BLE001 - an iterable without a length, or one whose length raises
        return None


def _is_key(key: Any) -> bool:
    """Whether a table may have a row for it."""
    return isinstance(key, (str, int, tuple))
