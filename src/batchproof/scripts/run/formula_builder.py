"""From one pass through a loop's body to a function: what is added, of predictions and targets.

The added expression is followed back through the values that were kept.  A value is known by its identity: the tensor
that a variable holds is the one that some earlier expression gave, wherever that expression stands.  The way back ends
at what a model gave and at what came from the loader: these are the arguments.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from batchproof.scripts.run.formula import (
    COUNT,
    WITHOUT_STATE,
    Backtrace,
    Formula,
    Unmeasured,
    at,
    bare,
    compile_steps,
    is_load,
    is_zero,
    named,
    unwrapped,
    walk,
)
from batchproof.scripts.run.purity import Opaque, is_model, may_be_called_again
from batchproof.scripts.run.registry import Kept, Node, Registry
from batchproof.scripts.run.row_selection import rows_of_one_kind
from batchproof.scripts.run.trace import (
    Trace,
    is_a,
    is_batch,
    is_batch_holder,
    is_container,
    is_plain,
    is_tensor,
    parts,
)

#: LongerLoader ways are no formulas.
MOST_STEPS = 400


def formula(registry: Registry, trace: Trace, root: Kept, through_models: bool = False) -> Formula:
    """The function that gives the value of ``root`` in a trace that ends with it.

    Args:
        registry: what the numbers in the trace stand for.
        trace: what was evaluated.
        root: the added expression.
        through_models: whether the way back goes on through a model, to what came from the loader.

    Raises:
        Unmeasured: there is none that could be called again.
    """
    resolver = _Resolver(registry, trace, through_models)
    end = len(trace.numbers)
    index = trace.latest(root.number, end)
    if index is None:
        raise Unmeasured("what is added was not evaluated in the loop")
    result = resolver.kept(index)
    return resolver.finish(result)


def formula_of(registry: Registry, trace: Trace, value: Any) -> Formula:
    """The function that gives a value that the script handed to somebody else, who averages it.

    Raises:
        Unmeasured: there is none that could be called again, or the value was not seen.
    """
    resolver = _Resolver(registry, trace, through_models=False)
    return resolver.finish(resolver.value(value))


def predictions(registry: Registry, trace: Trace, found: Formula) -> Formula:
    """The function of what came from the loader that gives a formula's arguments, with the model's weights as they are.

    Raises:
        Unmeasured: the way from the loader to the predictions is not one that can be gone again.
    """
    resolver = _Resolver(registry, trace, through_models=True)
    near = registry.nodes[trace.numbers[found.arguments[0]]].kept
    results = [resolver.again(index) for index in found.arguments]
    return resolver.finish(at(ast.Tuple(results, ast.Load()), near or results[0]))


class _Resolver:
    """Follows values back.  What was found is undone where a way turns out to lead nowhere."""

    def __init__(self, registry: Registry, trace: Trace, through_models: bool) -> None:
        self.registry = registry
        self.trace = trace
        self.through_models = through_models
        self.state = Backtrace()
        self.open: set[int] = set()
        self.from_loader = {id(part): part for _, part in parts(trace.target) if not is_plain(part)}
        self.givers = self._givers()

    def _givers(self) -> dict[int, list[tuple[int, tuple[Any, ...]]]]:
        """By identity of a value: which expressions gave it, the last first, and where in their value it is."""
        found: dict[int, list[tuple[int, tuple[Any, ...]]]] = {}
        for index in range(len(self.trace.numbers) - 1, -1, -1):
            node = self._node(index)
            value = self.trace.values[index]
            if node.kept is not None and is_load(node.kept.inner) and not self._is_view(node.kept.inner, value, index):
                continue
            for path, part in parts(value) if is_container(value) else [((), value)]:
                if not is_plain(part):
                    found.setdefault(id(part), []).append((index, path))
        for givers in found.values():
            givers.sort(key=lambda giver: len(giver[1]))  # what gave the value itself, before what gave a tuple with it
        return found

    def _is_view(self, inner: ast.expr, value: Any, index: int) -> bool:
        """Whether reading an item makes a tensor anew, as ``x[:, 0]`` does and ``batch["x"]`` does not."""
        return (
            isinstance(inner, ast.Subscript)
            and is_tensor(value)
            and is_tensor(self._object(unwrapped(inner.value), index))
        )

    def _node(self, index: int) -> Node:
        return self.registry.nodes[self.trace.numbers[index]]

    # ------------------------------------------------------------------ values

    def again(self, index: int) -> ast.expr:
        """An argument of another formula: a value that a call gave through that call, another as it was kept."""
        value = self.trace.values[index]
        if id(value) not in self.from_loader and is_load(self._inner(index)):
            return self._tensor(index)
        return self.kept(index)

    def _inner(self, index: int) -> ast.expr:
        kept = self._node(index).kept
        return kept.inner if kept is not None else ast.Constant(None)

    def value(self, value: Any) -> ast.expr:
        """An expression for a value that is known by its identity."""
        reasons: list[Exception] = []
        for giver, path in self.givers.get(id(value), ()):
            before = self.state.copy()
            try:
                return self._part_of(giver, path)
            except (Unmeasured, Opaque) as reason:
                self.state = before
                reasons.append(reason)
        if id(value) in self.trace.losses:
            return self._loss_of_model(value)
        raise Unmeasured(str(reasons[0]) if reasons else "how it is computed was not seen in files of the script")

    def kept(self, index: int) -> ast.expr:
        """An expression for the value that was kept at a point."""
        if index in self.state.known:
            return self.state.known[index]
        if index in self.open or len(self.state.steps) > MOST_STEPS:
            raise Unmeasured("what is added refers to itself")
        self.open.add(index)
        try:
            found = self._value(index)
        finally:
            self.open.discard(index)
        self.state.known[index] = found
        return found

    def _value(self, index: int) -> ast.expr:
        node, value = self._node(index), self.trace.values[index]
        if node.kept is None:
            return self._changed(index)
        if not is_load(node.kept.inner):
            return self._expanded(index)
        if is_tensor(value):
            return self._tensor(index)
        return self._other(index)

    def _tensor(self, index: int) -> ast.expr:
        """A tensor that is read: from what gave it, or as an argument."""
        value = self.trace.values[index]
        if id(value) in self.from_loader:
            return self._argument(index)
        if id(value) in self.trace.losses:
            return self._from_giver(index) or self._loss_of_model(value)
        for giver, path in self.givers.get(id(value), ()):
            if giver >= index:
                continue
            if not path:
                return self.kept(giver)
            attempt = self._attempt(partial(self._part_of, giver, path))
            if attempt is not None:
                return attempt
            if self._is_from_model(giver):
                self.state.model = True
                return self._argument(index)
        inner = self._node(index).kept
        assert inner is not None
        if not isinstance(inner.inner, ast.Name):
            attempt = self._attempt(lambda: self._inside(inner.inner, index))
            if attempt is not None:
                return attempt
            if self._comes_from_loader(inner.inner, index) or self._names_position(inner.inner):
                return self._argument(index)
        return self._fixed(index)

    def _other(self, index: int) -> ast.expr:
        """Something else that is read: a number, a function, an object."""
        node, value = self._node(index), self.trace.values[index]
        assert node.kept is not None
        inner = node.kept.inner
        if self._counts_samples(inner, index):
            return self._named(COUNT, index)
        name = ast.unparse(bare(inner))
        for earlier in range(index - 1, -1, -1):
            if name in self._node(earlier).assigned and (found := self._given(earlier, value)) is not None:
                return found
        from_giver = self._from_giver(index)
        if from_giver is not None:
            return from_giver
        if not isinstance(inner, ast.Name):
            attempt = self._attempt(lambda: self._inside(inner, index))
            if attempt is not None:
                return attempt
        if id(value) in self.from_loader or (name in self.trace.takes and is_plain(value)):
            raise Unmeasured(f"{name} comes from the loader and is no tensor")
        return self._fixed(index)

    def _from_giver(self, index: int) -> ast.expr | None:
        """The value of a point, from an earlier expression that gave it, or gave something that holds it."""
        for giver, path in self.givers.get(id(self.trace.values[index]), ()):
            if giver < index and (found := self._attempt(partial(self._part_of, giver, path))) is not None:
                return found
        return None

    def _given(self, earlier: int, value: Any) -> ast.expr | None:
        """The value, from an assignment to its name."""
        given = self.trace.values[earlier]
        if given is value:
            return self._attempt(lambda: self.kept(earlier))
        if is_container(given):
            for path, part in parts(given):
                if part is value:
                    return self._attempt(partial(self._part_of, earlier, path))
        return None

    def _part_of(self, giver: int, path: tuple[Any, ...]) -> ast.expr:
        """What an expression gave, or a part of it; of a tuple that is written out, only that part is followed back."""
        node = self._node(giver)
        inner = node.kept.inner if node.kept is not None else None
        if path and isinstance(inner, (ast.Tuple, ast.List)) and isinstance(path[0], int):
            return walk(self._inside(unwrapped(inner.elts[path[0]]), giver), path[1:])
        if path and isinstance(inner, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else inner for key in inner.keys]  # `inner` is no key
            if path[0] in keys:
                return walk(self._inside(unwrapped(inner.values[keys.index(path[0])]), giver), path[1:])
        return walk(self.kept(giver), path)

    def _changed(self, index: int) -> ast.expr:
        """What ``loss += penalty`` left: the earlier value, and what was added to it."""
        node = self._node(index)
        assert node.changed is not None
        statement = node.changed
        name = ast.unparse(bare(statement.target))
        for earlier in range(index - 1, -1, -1):
            if name in self._node(earlier).assigned:
                before = self.kept(earlier)
                after = self._inside(statement.value, index)
                return self._step(index, ast.BinOp(before, statement.op, after), statement)
        raise Unmeasured(f"{name} is changed in place, and where it comes from was not seen")

    # ------------------------------------------------------------------ expressions

    def _expanded(self, index: int) -> ast.expr:
        """An expression that gave a value, from its parts; or an argument, where it cannot be evaluated again."""
        node, value = self._node(index), self.trace.values[index]
        assert node.kept is not None
        inner = node.kept.inner
        if self._counts_samples(inner, index):
            return self._named(COUNT, index)
        before = self.state.copy()
        self.state.model = self.state.own = False
        try:
            if isinstance(inner, ast.Call) and self._scores(inner, index):
                found = self._scored(inner, index)
            else:
                if isinstance(inner, ast.Call):
                    self._check(inner, index)
                found = self._step(index, self._inside(inner, index), inner)
        except (Opaque, Unmeasured) as reason:
            self.state = before
            return self._instead(index, reason)
        if is_batch(value) and self.state.own and not self.state.model:
            self.state = before  # what a function of the script makes of the loader's batch is as good an argument
            return self._argument(index)
        self.state.model |= before.model
        self.state.own |= before.own
        return found

    def _counts_samples(self, inner: ast.expr, index: int) -> bool:
        """Whether it is ``len(x)``, ``x.size(0)`` or ``x.shape[0]`` of a batch: then ``x`` itself need not be kept."""
        value, counted = self.trace.values[index], None
        if isinstance(inner, ast.Call) and len(inner.args) == 1 and not inner.keywords:
            argument = unwrapped(inner.args[0])
            if isinstance(inner.func, ast.Name) and inner.func.id == "len":
                counted = argument
            elif isinstance(inner.func, ast.Attribute) and inner.func.attr == "size" and is_zero(argument):
                counted = unwrapped(inner.func.value)
        elif isinstance(inner, ast.Subscript) and is_zero(inner.slice):
            shape = unwrapped(inner.value)
            shape = shape.inner if isinstance(shape, Kept) else shape
            if isinstance(shape, ast.Attribute) and shape.attr == "shape":
                counted = unwrapped(shape.value)
            elif isinstance(shape, ast.Call) and isinstance(shape.func, ast.Attribute) and shape.func.attr == "size":
                counted = unwrapped(shape.func.value)
        held: Any = self._object(counted, index) if counted is not None else None
        if not is_batch(held) or id(held) not in self.from_loader or type(value) is not int:
            return False
        self.state.count = value
        return len(held) == value

    def _instead(self, index: int, reason: Exception) -> ast.expr:
        """For an expression that must not be evaluated again: what was kept inside it, or its value as an argument."""
        value = self.trace.values[index]
        if is_tensor(value) or isinstance(value, float):
            from_giver = self._from_giver(index)
            if from_giver is not None:
                return from_giver
        if is_batch(value):
            self.state.model |= isinstance(reason, Opaque) and reason.is_model
            return self._argument(index)
        raise Unmeasured(str(reason))

    def _is_from_model(self, index: int) -> bool:
        node = self._node(index)
        return is_batch_holder(self.trace.values[index]) and node.kept is not None

    def _inside(self, node: ast.expr, before: int) -> Any:
        """The expression itself, with everything that was kept in it followed back."""
        if isinstance(node, Kept):
            index = self.trace.latest(node.number, before)
            if index is None:
                raise Unmeasured(f"{ast.unparse(bare(node.inner))} was not evaluated")
            return self.kept(index)
        if isinstance(node, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)):
            raise Unmeasured(f"{ast.unparse(bare(node))} cannot be evaluated again")
        if isinstance(node, ast.Name):
            self._note_source(node, before)
        return self._with_parts(node, before)

    def _with_parts(self, node: Any, before: int) -> Any:
        """A copy of a node whose own expressions are followed back."""
        found = copy.copy(node)
        for name, part in ast.iter_fields(node):
            is_list = isinstance(part, list)
            setattr(found, name, [self._part(item, before) for item in part] if is_list else self._part(part, before))
        return found

    def _part(self, item: Any, before: int) -> Any:
        if isinstance(item, ast.expr):
            return self._inside(unwrapped(item), before)
        return self._with_parts(item, before) if isinstance(item, (ast.keyword, ast.comprehension)) else item

    def _note_source(self, node: ast.Name, before: int) -> None:
        """A name that is the same wherever it is read is looked up in the namespace of its file."""
        index = min(before, len(self.trace.numbers) - 1)
        self.state.sources.setdefault(node.id, self._node(index).source)

    def _scores(self, call: ast.Call, index: int) -> bool:
        """Whether a metric object is called, which gives a batch's value and adds the batch to its state."""
        callee = self._object(unwrapped(call.func), index)
        return is_a(callee, "torchmetrics", "Metric") or is_a(callee, "torchmetrics", "MetricCollection")

    def _scored(self, call: ast.Call, index: int) -> ast.expr:
        """The value that a metric without a state gives."""
        found = self._inside(call, index)
        found.func = at(ast.Call(at(ast.Name(WITHOUT_STATE, ast.Load()), call), [found.func], []), call)
        return self._step(index, found, call)

    def _check(self, call: ast.Call, index: int) -> None:
        """Refuse a call that must not be made again."""
        method = ""
        if isinstance(call.func, ast.Attribute):
            holder = self._object(unwrapped(call.func.value), index)
            method = call.func.attr
            callee = getattr(holder, method, None) if holder is not None else None
        else:
            holder, callee = None, self._object(unwrapped(call.func), index)
        arguments = [
            self._object(unwrapped(part), index) for part in [*call.args, *(word.value for word in call.keywords)]
        ]
        if may_be_called_again(callee, holder, method, arguments, self.through_models):
            self.state.own = True
        self.state.model |= any(map(is_model, [callee, *arguments]))

    def _object(self, node: ast.expr, before: int) -> Any:
        """What an expression gave, or would give where it is only a name in a module; None where that is not known."""
        if isinstance(node, Kept):
            index = self.trace.latest(node.number, before)
            return None if index is None else self.trace.values[index]
        if isinstance(node, ast.Name):
            source = self._node(min(before, len(self.trace.numbers) - 1)).source
            return source.names.get(node.id, getattr(builtins, node.id, None))
        if isinstance(node, ast.Attribute):
            holder = self._object(unwrapped(node.value), before)
            return getattr(holder, node.attr, None) if holder is not None else None
        return None

    def _step(self, index: int, found: ast.expr, near: ast.AST) -> ast.expr:
        self.state.steps.append((index, found))
        return named(f"_value{index}", near)

    def _argument(self, index: int) -> ast.expr:
        value = self.trace.values[index]
        if not is_batch(value):
            raise Unmeasured("a value of the batch is a single number whose origin was not seen")
        for other, name in self.state.arguments.items():
            if self.trace.values[other] is value:
                return self._named(name, index)
        name = f"_argument{index}"
        self.state.arguments[index] = name
        return self._named(name, index)

    def _loss_of_model(self, value: Any) -> ast.expr:
        """A loss that an installed model computed: by the function and the tensors that were noted of it."""
        _, function, tensors = self.trace.losses[id(value)]
        near = ast.Pass(lineno=1, col_offset=0)
        self.state.model = True
        if all(index != function for index, _ in self.state.steps):
            taken = [self._argument(index) for index in tensors]
            self._step(function, at(ast.Call(self._fixed(function), taken, []), near), near)
        return named(f"_value{function}", near)

    def _fixed(self, index: int) -> ast.expr:
        self.state.fixed[index] = self.trace.values[index]
        return self._named(f"_fixed{index}", index)

    def _named(self, name: str, index: int) -> ast.expr:
        kept = self._node(index).kept
        return named(name, kept if kept is not None else ast.Pass(lineno=1, col_offset=0))

    def _attempt(self, way: Callable[[], ast.expr]) -> ast.expr | None:
        before = self.state.copy()
        try:
            return way()
        except (Unmeasured, Opaque):
            self.state = before
            return None

    def _names_position(self, node: ast.expr) -> bool:
        """Whether an item is picked by what the loop counts: ``y[i : i + 16]``."""
        return any(isinstance(part, ast.Name) and part.id in self.trace.takes for part in ast.walk(bare(node)))

    def _comes_from_loader(self, node: ast.expr, before: int) -> bool:
        """Whether an attribute or an item is of something that the loop took from its loader."""
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            held = unwrapped(node.value)
            value = self._object(held, before)
            if value is not None and id(value) in self.from_loader:
                return True
            node = held.inner if isinstance(held, Kept) else held
        return False

    # ------------------------------------------------------------------ the function

    def finish(self, result: ast.expr) -> Formula:
        """The steps as a function."""
        state = self.state
        if not state.arguments:
            raise Unmeasured("what is added does not come from tensors of the batch")
        cut = rows_of_one_kind(state.steps, state.arguments, result, self.trace.values, self.trace.along != 0)
        if cut is not None:
            state.steps, state.arguments = cut
            state.forget_unused(result)
        if self.trace.along and any(self._lies_across(index) for index in state.arguments):
            raise Unmeasured("its samples do not lie along the first dimension")
        first = next(iter(state.arguments))
        if state.count is not None and self.trace.values[first].shape[0] != state.count:
            raise Unmeasured("it divides by a number of samples that its predictions do not have")
        source = self._node(len(self.trace.numbers) - 1).source
        function, text = compile_steps(state, result, source)
        return Formula(
            list(self.trace.numbers), tuple(state.arguments), tuple(state.fixed.items()), function, text,
            tuple(self._label(index) for index in state.arguments), state.model,
            expressions=tuple(step for index, step in state.steps if not is_batch(self.trace.values[index])),
            source=source,
        )  # fmt: skip

    def _lies_across(self, index: int) -> bool:
        """Whether the samples of an argument are along its second dimension, as those of the loader's tensors are."""
        shape = self.trace.values[index].shape
        return len(shape) > 1 and shape[1] == self.trace.count

    def _label(self, index: int) -> str:
        kept = self._node(index).kept
        return ast.unparse(bare(kept.inner)) if kept is not None else "value"
