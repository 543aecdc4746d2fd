"""Rewrite a script's tree so that it reports to the measuring as it runs.

Expressions are wrapped in calls that give back their value unchanged; a few statements are added where loops begin and
end.  Every line keeps its number, so that tracebacks, warnings and reports point where they should.  What cannot be
wrapped is left as it is (`untouchable.py`): the script means the same, and a number is not measured.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from batchproof.scripts.run.handed import (
    functions_of_engines,
    is_of_trainer,
    logged_values,
    logging_functions,
    repeated,
)
from batchproof.scripts.run.keys import key_of_added, key_of_average, tables_around, unbound_names
from batchproof.scripts.run.registry import NAME, AccumulatorPlace, Kept, LoopPlace, Node, Registry, RewrittenFile
from batchproof.scripts.run.slices import Functions, KeptExpressions, keep_returned, key, trace_back
from batchproof.scripts.run.untouchable import can_be_read_again, is_wrappable, untouchable
from batchproof.scripts.source import AverageSite, Phase, Script

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def rewrite(
    tree: ast.Module, script: Script, source: RewrittenFile, registry: Registry, report: str | None = None
) -> list[str]:
    """Change the tree in place, and note in the registry what the numbers in it stand for.

    Returns:
        For each number that is left as it is, a sentence.
    """
    rewriter = _Rewriter(source, registry, tree)
    registry.files[source.file] = source
    registry.logged += [(source.file, site) for site in script.sites if is_of_trainer(site)]
    sites = [_with_value(site) for site in script.sites if not _is_progress(site) and not is_of_trainer(site)]
    left = [site for site in sites if not rewriter.can_wrap(site.added.node)]
    sites = [site for site in sites if rewriter.can_wrap(site.added.node)]
    readers = Counter(id(average.node) for site in sites for average in site.averages)
    for site in sites:
        shared = [index for index, average in enumerate(site.averages) if readers[id(average.node)] > 1]
        rewriter.plan(site, frozenset(shared))
    functions = Functions.of(tree)
    for loop in _training_loops(tree, functions):
        rewriter.mark_training(loop)
    for site in sites:
        trace_back(site.added.node, _body(site), functions, rewriter.slice)
        for table in tables_around(site, rewriter.parents):
            trace_back(table, _body(site), functions, rewriter.slice)
    for function in (*_about_losses(tree), *functions_of_engines(tree, functions)):
        keep_returned(function, functions, rewriter.slice)
    for function in logging_functions(tree):
        for logged in logged_values(function):
            trace_back(logged, list(function.body), functions, rewriter.slice)
    if report is not None:
        for statement, line, value in _named(tree, report):
            rewriter.report(statement, line, value)
    rewriter.visit(tree)
    ast.fix_missing_locations(tree)
    return [f"{source.place(_line(site))}: {site.name} is left as it is, and not measured" for site in left]


def _with_value(site: AverageSite) -> AverageSite:
    """The same, where what a batch adds is known by the slot that it is put into: ``losses[k] = loss.item()``."""
    once = repeated(site.added.node)
    if once is not None:
        return replace(site, added=replace(site.added, node=once))
    add, context = site.add, getattr(site.added.node, "ctx", None)
    if not isinstance(add, (ast.Assign, ast.AnnAssign)) or add.value is None or not isinstance(context, ast.Store):
        return site
    targets = add.targets if isinstance(add, ast.Assign) else [add.target]
    if all(target is not site.added.node for target in targets):
        return site  # one of several names that a tuple is taken apart into
    return replace(site, added=replace(site.added, node=add.value))


def _picked_by(site: AverageSite) -> Iterator[str]:
    """The variables in brackets: ``phase`` of ``loaders[phase]``, ``part`` of an average kept as ``out[part]``."""
    loader = site.loop.loader.node
    for text in [*site.reported, *([ast.unparse(loader)] if loader is not None else [])]:
        yield from re.findall(r"\[([^\W\d]\w*)\]", text)


def _line(site: AverageSite) -> int:
    return int(getattr(site.add, "lineno", getattr(site.added.node, "lineno", 0)))


def _is_progress(site: AverageSite) -> bool:
    """Whether all that is read of it is a progress line over the last few batches."""
    return all(average.window for average in site.averages)


def _body(site: AverageSite) -> list[ast.AST]:
    node = site.loop.node
    return [] if isinstance(node, ast.comprehension) else list(node.body)


def _about_losses(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions that may compute a loss beside a model's output: other files call them."""
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS) and any("loss" in name for name in _words(node)):
            yield node


def _training_loops(tree: ast.Module, functions: Functions) -> Iterator[ast.For | ast.AsyncFor | ast.While]:
    """The innermost loops in which a gradient is computed, themselves or by a function that they call."""
    stepping = {
        name for name, found in functions.by_name.items() if any(_goes_backward(part.body, set()) for part in found)
    }
    for node in ast.walk(tree):
        if isinstance(node, _LOOPS) and _goes_backward(node.body, stepping):
            yield node


def _goes_backward(body: list[ast.stmt], stepping: set[str]) -> bool:
    """Whether ``backward`` is called, outside of loops within."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (*_LOOPS, *_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "backward" or name in stepping:
                return True
        todo += ast.iter_child_nodes(node)
    return False


def _loader_in(node: ast.expr) -> ast.expr:
    """What a loop takes its batches from, without what counts them and shows how far it is."""
    while isinstance(node, ast.Call) and node.args:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in ("enumerate", "tqdm", "trange", "track", "progress_bar", "iter"):
            break
        node = node.args[0]
    return node


@dataclass(frozen=True)
class _Receiver:
    """What a method's object is called in it, and the method's class."""

    name: str | None = None
    owner: ast.ClassDef | None = None


_NOBODY = _Receiver()


def _receivers(tree: ast.Module) -> Iterator[tuple[int, _Receiver]]:
    """For all that stands in a method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, _FUNCTIONS) and method.args.args:
                    for part in _in_scope(method.body):
                        yield id(part), _Receiver(method.args.args[0].arg, node)


def _in_scope(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What is in statements, but not in functions and classes that they define: there a name may be another one's."""
    for node in body:
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield from _in_scope(ast.iter_child_nodes(node))


def _named(tree: ast.Module, name: str) -> Iterator[tuple[ast.AST, int, ast.expr | None]]:
    """Where a variable of this name is assigned, or a value given under this key: a node, its line, and the target."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) and node.value is not None:
            targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((node, node.lineno, target) for target in _flat(targets) if _goes_by(target, name))
        elif isinstance(node, (ast.Dict, ast.Call)):
            yield from ((value, value.lineno, None) for key, value in _keyed(node) if key == name)


def _keyed(node: ast.Dict | ast.Call) -> Iterator[tuple[object, ast.expr]]:
    """What is given under a key: of ``{"loss": x}``, ``log("loss", x)`` and ``log(loss=x)`` each ``x``."""
    if isinstance(node, ast.Dict):
        pairs: list[tuple[ast.expr | None, ast.expr]] = list(zip(node.keys, node.values, strict=True))
    else:
        pairs = [(node.args[0], node.args[1])] if len(node.args) > 1 else []
    yield from ((key.value, value) for key, value in pairs if isinstance(key, ast.Constant))
    if isinstance(node, ast.Call):
        yield from ((keyword.arg, keyword.value) for keyword in node.keywords)


def _flat(targets: list[ast.expr]) -> Iterator[ast.expr]:
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            yield from _flat(target.elts)
        else:
            yield target


def _goes_by(target: ast.expr, name: str) -> bool:
    if isinstance(target, ast.Subscript):
        return isinstance(target.slice, ast.Constant) and target.slice.value == name
    return name in (getattr(target, "id", None), getattr(target, "attr", None))


def _words(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            for part in ast.walk(node.value):
                yield str(getattr(part, "id", getattr(part, "attr", ""))).lower()


class _Rewriter(ast.NodeTransformer):
    """Wraps what was planned, on the way back from the leaves of the tree."""

    def __init__(self, source: RewrittenFile, registry: Registry, tree: ast.Module) -> None:
        self.source = source
        self.registry = registry
        self.receivers = dict(_receivers(tree))
        self.parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.untouchable = untouchable(tree)
        self.unbound = unbound_names(tree)
        self.slice = KeptExpressions()
        self.wraps: dict[
            int, list[tuple[str, tuple[int, ...], ast.expr | None]]
        ] = {}  # of an expression: calls, the inner first
        self.after: dict[int, list[ast.expr]] = {}  # of a statement: expressions to evaluate after it
        self.loops: dict[int, LoopPlace] = {}
        self.places: dict[int, tuple[AverageSite, int]] = {}  # of an added expression

    # ------------------------------------------------------------------ what to do

    def can_wrap(self, node: ast.AST) -> bool:
        """Whether a call may stand around it and mean the same."""
        return is_wrappable(node) and id(node) not in self.untouchable

    def plan(self, site: AverageSite, shared: frozenset[int]) -> None:
        """Note every part of a site that is to be wrapped."""
        loop = self.loops.get(id(site.loop.node)) or self._loop(site)
        number = len(self.registry.places)
        place = AccumulatorPlace(number, self.source, site, loop.number, None, shared=shared)  # type: ignore[arg-type]
        place.may_weigh = isinstance(self.parents.get(id(site.added.node)), ast.Attribute)
        self.registry.places.append(place)
        loop.sites.append(number)
        loop.variables = tuple(dict.fromkeys((*loop.variables, *_picked_by(site))))
        loop.trains |= site.loop.phase is Phase.TRAINING
        place.key = key_of_added(site, self.parents, self.unbound)
        if place.key:
            self._wrap(site.added.node, "added_under", number, extra=ast.Name(place.key, ast.Load()))
        else:
            self._wrap(site.added.node, "added", number)
        weight = self._weight(site)
        if weight is not None:
            before = _position(weight) < _position(site.added.node)
            self._wrap(weight, "weight_before" if before else "weight", number)
        meter = self._meter(site)
        if meter is not None:
            place.meter = ast.unparse(meter)
            self._wrap(meter, "meter", number)
        for start in site.starts:
            self._at_start(start, number, meter is not None)
        for index, average in enumerate(site.averages):
            if place.key or isinstance(site.added.node, (ast.Dict, ast.Name)):
                key = key_of_average(average.node, self.parents, self.unbound)
                if key is not None and self._at_average_under(average.node, number, index, key):
                    continue
            self._at_average(average.node, number, index, meter is not None)

    def _weight(self, site: AverageSite) -> ast.expr | None:
        """What the value is multiplied by: where a meter's method does it, what that is called with."""
        weight = site.added.weight_node
        if weight is None or self._holder(weight, ast.stmt) is self._holder(site.added.node, ast.stmt):
            return weight
        method, call = self._holder(weight, _FUNCTIONS), self._holder(site.added.node, ast.Call)
        if not isinstance(weight, ast.Name) or not isinstance(method, _FUNCTIONS) or not isinstance(call, ast.Call):
            return None if isinstance(method, _FUNCTIONS) else weight
        for keyword in call.keywords:
            if keyword.arg == weight.id:
                return keyword.value
        names = [argument.arg for argument in method.args.args]
        place = names.index(weight.id) - len(names[:1]) if weight.id in names[1:] else len(call.args)
        return call.args[place] if place < len(call.args) else None

    def _holder(self, node: ast.AST, kind: Any) -> ast.AST | None:
        """The innermost node of a kind around another one."""
        found = self.parents.get(id(node))
        while found is not None and not isinstance(found, kind):
            found = self.parents.get(id(found))
        return found

    def _meter(self, site: AverageSite) -> ast.expr | None:
        """The object that takes what a batch adds, where its class averages: ``losses`` in ``losses.update``."""
        own = self.receivers.get(id(site.loop.node), _NOBODY).owner
        if all(self.receivers.get(id(average.node), _NOBODY).owner in (None, own) for average in site.averages):
            return None
        node: ast.AST | None = site.added.node
        while node is not None and not isinstance(node, ast.stmt):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node is not site.added.node:
                return node.func.value
            node = self.parents.get(id(node))
        return None

    def _at_start(self, start: ast.AST, number: int, is_meter: bool) -> None:
        receiver = self.receivers.get(id(start), _NOBODY).name if is_meter else None
        if receiver is None:
            self._after(start, "start", number)
        else:
            self._after(start, "start_of", number, value=ast.Name(receiver, ast.Load()))

    def _at_average(self, node: ast.AST, number: int, index: int, is_meter: bool) -> None:
        receiver = self.receivers.get(id(node), _NOBODY).name if is_meter else None
        if isinstance(node, ast.expr):
            if receiver is None:
                self._wrap(node, "average", number, index)
            else:
                self._wrap(node, "average_of", number, index, extra=ast.Name(receiver, ast.Load()))
        elif isinstance(node, ast.AugAssign) and can_be_read_again(node.target):
            self._after(node, "average", number, index, value=_read(node.target))

    def _at_average_under(self, node: ast.AST, number: int, index: int, name: str) -> bool:
        """An average under a key that a variable holds; whether it can be told so."""
        key = ast.Name(name, ast.Load())
        if isinstance(node, ast.expr):
            self._wrap(node, "average_under", number, index, extra=key)
            return True
        if isinstance(node, ast.AugAssign) and can_be_read_again(node.target):
            pair = ast.Tuple([key, _read(node.target)], ast.Load())
            self._after(node, "average_of_pair", number, index, value=pair)
            return True
        return False

    def mark_training(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        """A loop that trains, whether or not it averages anything."""
        loop = self.loops.get(id(node)) or self._new_loop(node, None)
        loop.trains = True

    def report(self, node: ast.AST, line: int, value: ast.expr | None) -> None:
        """A number that was asked for by name: the expression itself, or what a statement leaves in a target."""
        number = len(self.registry.reports)
        self.registry.reports.append((self.source, line))
        if value is None:
            self._wrap(node, "report", number)  # type: ignore[arg-type]
        elif can_be_read_again(value):
            self._after(node, "report", number, value=_read(value))

    def _loop(self, site: AverageSite) -> LoopPlace:
        return self._new_loop(site.loop.node, site.loop.loader.node)

    def _new_loop(self, node: Any, loader: ast.expr | None) -> LoopPlace:
        line = getattr(node, "lineno", getattr(getattr(node, "target", None), "lineno", 0))
        loop = LoopPlace(len(self.registry.loops), self.source, line)
        self.registry.loops.append(loop)
        self.loops[id(node)] = loop
        loop.node_is_while = isinstance(node, ast.While)
        if hasattr(node, "target"):
            loop.takes = frozenset(part.id for part in ast.walk(node.target) if isinstance(part, ast.Name))
        if loader is None and hasattr(node, "iter"):
            loader = _loader_in(node.iter)
        if loader is not None:
            self._wrap(loader, "loader", loop.number)
        if isinstance(node, _LOOPS):
            self._after(node, "left", loop.number)
        elif isinstance(node, ast.comprehension):
            self._wrap(self._whole(node), "left_with", loop.number)
        return loop

    def _whole(self, node: ast.comprehension) -> ast.expr:
        """The expression after which a comprehension has run: what calls it, where it is a generator."""
        found = self.parents[id(node)]
        holder = self.parents.get(id(found))
        if isinstance(found, ast.GeneratorExp) and isinstance(holder, ast.Call):
            return holder
        assert isinstance(found, ast.expr)
        return found

    def _wrap(self, node: ast.expr, method: str, *numbers: int, extra: ast.expr | None = None) -> None:
        self.wraps.setdefault(id(node), []).append((method, numbers, extra))

    def _after(self, statement: ast.AST, method: str, *numbers: int, value: ast.expr | None = None) -> None:
        arguments: list[ast.expr] = [ast.Constant(number) for number in numbers]
        call = _call(method, [*arguments, *([] if value is None else [value])])
        self.after.setdefault(id(statement), []).append(call)

    # ------------------------------------------------------------------ doing it

    def visit(self, node: ast.AST) -> Any:
        found: Any = super().visit(node)
        if isinstance(node, ast.expr):
            return self._wrapped(node, found)
        if isinstance(node, ast.stmt):
            return self._followed(node, found)
        return found

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        """A comprehension's body begins with a condition that always holds."""
        found: Any = self.generic_visit(node)
        if id(node) in self.loops:
            step = _call("stepped", [ast.Constant(self.loops[id(node)].number), _taken(node.target)])
            found.ifs.insert(0, _at(step, node.target))
        return found

    def _wrapped(self, node: ast.expr, found: ast.expr) -> ast.expr:
        if not self.can_wrap(node):
            return found
        wraps = self.wraps.get(id(node), ())
        is_added = any(method in ("added", "added_under") for method, _, _ in wraps)
        if (id(node) in self.slice.kept and not isinstance(node, (ast.Constant, ast.Lambda))) or is_added:
            found = self._kept(found, self.slice.kept.get(id(node), ()))
        for method, numbers, extra in wraps:
            if method in ("added", "added_under") and isinstance(found, Kept):
                self.registry.places[numbers[0]].root = found
            arguments: list[ast.expr] = [ast.Constant(number) for number in numbers]
            if method == "loader":
                arguments.append(self._words(self.registry.loops[numbers[0]], node))
            found = _at(_call(method, [*arguments, *([] if extra is None else [extra]), found]), node)
        return found

    def _words(self, loop: LoopPlace, loader: ast.expr) -> ast.expr:
        """The variables by which a loop picks its data, as far as they have a value before it begins."""
        bound = {part.id for part in ast.walk(loader) if isinstance(part, ast.Name)}
        holder: ast.AST | None = self.parents.get(id(loader))
        while holder is not None and not isinstance(holder, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            above = self.parents.get(id(holder))
            if isinstance(above, (ast.For, ast.AsyncFor)) and holder in above.body:
                bound |= {part.id for part in ast.walk(above.target) if isinstance(part, ast.Name)}
            holder = above
        loop.variables = tuple(name for name in loop.variables if name in bound)
        return ast.Tuple([ast.Name(name, ast.Load()) for name in loop.variables], ast.Load())

    def _kept(self, found: ast.expr, names: tuple[str, ...]) -> Kept:
        number = len(self.registry.nodes)
        plain = _call("keep", [ast.Constant(number), found])
        kept = Kept(func=plain.func, args=plain.args, keywords=[])
        kept.number = number
        self.registry.nodes.append(Node(self.source, kept, names))
        _at(kept, found)
        return kept

    def _followed(self, node: ast.stmt, found: Any) -> Any:
        if id(node) in self.untouchable:
            return found
        statements = [found]
        if isinstance(node, _LOOPS) and id(node) in self.loops:
            target = ast.Constant(None) if isinstance(node, ast.While) else _taken(node.target)
            step = _call("step", [ast.Constant(self.loops[id(node)].number), target])
            found.body.insert(0, _statement(step, node.body[0]))
        if id(node) in self.slice.changed:
            changed = self.slice.changed[id(node)]
            number = len(self.registry.nodes)
            self.registry.nodes.append(Node(self.source, None, (key(changed.target),), changed))
            if can_be_read_again(changed.target):
                statements.append(_statement(_call("keep", [ast.Constant(number), _read(changed.target)]), node))
        statements += [_statement(expression, node) for expression in self.after.get(id(node), ())]
        return statements if len(statements) > 1 else found


def _position(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _call(method: str, arguments: list[ast.expr]) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(NAME, ast.Load()), method, ast.Load()), arguments, [])


def _read(target: ast.expr) -> ast.expr:
    """A target as an expression."""
    found = copy.deepcopy(target)
    for node in ast.walk(found):
        if hasattr(node, "ctx"):
            node.ctx = ast.Load()
    if isinstance(found, ast.Starred):
        return found.value
    return found


def _taken(target: ast.expr) -> ast.expr:
    """What a loop has just put into its target; None where only the target's own code could say."""
    return _read(target) if can_be_read_again(target) else ast.Constant(None)


def _statement(expression: ast.expr, near: ast.stmt) -> ast.stmt:
    return _at(ast.Expr(expression), near)  # type: ignore[no-any-return]


def _at(node: Any, near: ast.AST) -> Any:
    """At the place of another node, with all that has no place of its own."""
    for part in _unplaced(node):
        ast.copy_location(part, near)
    return node


def _unplaced(node: ast.AST) -> Iterator[ast.AST]:
    if getattr(node, "lineno", None) is not None:
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _unplaced(child)
