"""A file read as if it ran: the loops that are open, the functions that are being read, what was found so far."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from batchproof.scripts.source import arithmetic, assignment, calls, expressions, ranks, statements
from batchproof.scripts.source.callables import Function, Instance
from batchproof.scripts.source.frames import BatchLoop, Binding, Contribution, Frame, OpenLoop, Scope
from batchproof.scripts.source.index import Index
from batchproof.scripts.source.site import Average, Divisor, Quantity, Suspicion, Topic
from batchproof.scripts.source.values import Arguments, Keywords, Share, Stat, Value


@dataclass(eq=False)
class Interpreter:
    index: Index
    module: Scope
    frames: list[Frame] = field(default_factory=list)
    loops: list[OpenLoop] = field(default_factory=list)
    entries: dict[tuple[int, str], Contribution] = field(default_factory=dict)
    batch_loops: dict[int, BatchLoop] = field(default_factory=dict)
    suspicions: dict[tuple[Topic, int], Suspicion] = field(default_factory=dict)
    stale: dict[int, int] = field(default_factory=dict)  # by what a last batch's value comes from: where it is reported
    undivided: list[tuple[Contribution, str]] = field(default_factory=list)  # sums that are reported, by which name
    over_ranks: list[tuple[Share, ast.AST]] = field(default_factory=list)
    gathered: list[tuple[BatchLoop, ast.AST, bool]] = field(default_factory=list)  # by accelerate; whether one number
    first_ranks: list[tuple[Contribution, ast.AST, str]] = field(default_factory=list)  # with the report
    read: set[ast.AST] = field(default_factory=set)
    spent: dict[ast.AST, int] = field(default_factory=dict)  # statements by function
    marks: int = 0
    statements: int = 0

    def evaluate(self, node: ast.expr) -> Value:
        """What an expression holds."""
        return expressions.evaluate(self, node)

    def execute(self, body: list[ast.stmt]) -> bool:
        """Read statements; whether what follows them is reached."""
        return statements.execute(self, body)

    def assign(self, target: ast.expr, value: Value) -> None:
        """Bind the names of a target."""
        assignment.assign(self, target, value)

    def held_by(self, target: ast.expr) -> Binding | None:
        """What a target holds, and since when."""
        return assignment.held_by(self, target)

    def hold(self, target: ast.expr, value: Value, held: Binding | None = None) -> None:
        """Put a value in the place of what a target holds, which it holds since the same statement."""
        binding = Binding(value, self.open_marks(), self.frame.statement)
        assignment.hold(self, target, binding if held is None else Binding(value, held.created_in, held.statement))

    def call(self, function: Function, node: ast.AST, arguments: Arguments, keywords: Keywords) -> Value:
        """Read a function of this file with these arguments."""
        return calls.call_function(self, function, node, arguments, keywords)

    def in_method(self, instance: Instance, node: ast.expr) -> Value:
        """What an expression of some method holds, the method's own names unknown."""
        return calls.in_method(self, instance, node)

    def binary(self, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
        """What ``left op right`` holds."""
        return ranks.divided(self, node, op, left, right, arithmetic.binary(self, node, op, left, right))

    def stat(self, node: ast.expr | None, quantity: Quantity, why: str = "", origin: ast.AST | None = None) -> Stat:
        """A number about the batch whose loop is open."""
        return Stat(node, quantity, why, origin or node, call=node, plain=node, loop=self.batch_loop())

    @property
    def frame(self) -> Frame:
        return self.frames[-1]

    def open_marks(self) -> tuple[int, ...]:
        """The loops that are open now."""
        return tuple(loop.mark for loop in self.loops)

    def batch_loop(self) -> BatchLoop | None:
        """The innermost loop over batches that is open."""
        return next((loop.batch for loop in reversed(self.loops) if loop.batch is not None), None)

    def is_open(self, loop: BatchLoop) -> bool:
        return any(other.batch is loop for other in self.loops)

    def open_for(self, created_in: tuple[int, ...]) -> OpenLoop | None:
        """The innermost loop over batches, or over samples, that something created there outlives."""
        for loop in reversed(self.loops):
            if (loop.batch is not None or loop.samples) and loop.mark not in created_in:
                return loop
        return None

    def start_anew(self, entries: Iterable[Contribution]) -> bool:
        """Note which of these start anew now, inside their own loop, and so are over a window; whether any does."""
        windows = [entry for entry in entries if self.is_open(entry.loop)]
        for entry in windows:
            entry.window = True
        return bool(windows)

    def suspect(self, topic: Topic, node: ast.AST, why: str) -> None:
        self.suspicions.setdefault((topic, id(node)), Suspicion(topic, node, why))

    def bind(self, name: str, value: Value) -> None:
        self.frame.scope.names[name] = Binding(value, self.open_marks(), self.frame.statement)

    def place_of(self, value: Value, loop: OpenLoop) -> tuple[ast.AST, str]:
        """The statement that adds a value: in the function that made it, where another was only handed it."""
        frame = self.frame
        known = value.mark
        while frame is not loop.frame and frame.caller is not None and known in frame.given:
            frame = frame.caller
        return frame.statement or loop.node, frame.name

    def record_average(
        self,
        entries: tuple[Contribution, ...],
        node: ast.AST,
        divisor: Divisor,
        divisor_node: ast.expr | None,
        number: bool = False,
        own: bool = False,
    ) -> tuple[Average, ...]:
        """Note that a total was divided; ``number`` where by a number that stands in the source."""
        averages = []
        for entry in entries:
            inside = self.is_open(entry.loop)
            average = Average(node, divisor, divisor_node, inside, window=number and inside, own=own)
            entry.averages.setdefault(id(node), average)
            if entry.taken is None and self.frame.statement is not None:
                entry.taken = self.frame.statement
            averages.append(average)
        return tuple(averages)
