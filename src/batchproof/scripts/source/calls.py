"""What a call returns: of a function or class of the same file, read with these arguments; of a library, by name."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.scripts.source import library, methods, name_tables, objects, stats, trainers
from batchproof.scripts.source.interpreter import MOST_CALLS, MOST_IN_ONE, MOST_STATEMENTS, Frame, Reading, marks_of
from batchproof.scripts.source.site import Quantity
from batchproof.scripts.source.subscripts import key_of, length_of, named
from batchproof.scripts.source.values import (
    Arguments,
    Binding,
    Class,
    Const,
    Fixed,
    Function,
    Instance,
    Items,
    Keywords,
    Library,
    LoaderValue,
    LossFunction,
    Mapping,
    Meter,
    MetricObject,
    Pool,
    Rows,
    Scope,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
    join,
)


def call(run: Reading, node: ast.Call) -> Value:
    if isinstance(node.func, ast.Attribute):
        base = run.evaluate(run, node.func.value)
        name = node.func.attr
        arguments, keywords = _arguments(run, node)
        if name == "__len__":
            return length_of(run, base, node, node.func.value)
        if name in {"log", "log_dict"} and trainers.logged(run, node, base, name, arguments, keywords):
            return Fixed(node)
        if isinstance(base, Instance) and name == "eval" and methods.set_mode(run, base, name, arguments):
            return base
        if isinstance(base, (Library, Instance, Class)):
            function = _callee(run, node, base)
            return apply(run, node, function, name, arguments, keywords)
        return methods.call_method(run, node, base, name, arguments, keywords)
    function = run.evaluate(run, node.func)
    arguments, keywords = _arguments(run, node)
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if isinstance(node.func, ast.Subscript):
        name = f"{_last_word(node.func.value)}_{key_of(node.func.slice)}"
    return apply(run, node, function, name, arguments, keywords)


def _last_word(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _callee(run: Reading, node: ast.Call, base: Value) -> Value:
    assert isinstance(node.func, ast.Attribute)
    if isinstance(base, Class) and base.definition is not None:
        method = run.index.methods.get(base.definition, {}).get(node.func.attr)
        if method is not None:
            return Function(node, method, base.scope or run.module)
        return Unknown(node, node.func.attr)
    return run.evaluate(run, node.func)


def _arguments(run: Reading, node: ast.Call) -> tuple[Arguments, Keywords]:
    arguments = [run.evaluate(run, argument) for argument in node.args]
    keywords = {keyword.arg or "**": run.evaluate(run, keyword.value) for keyword in node.keywords}
    return arguments, keywords


def apply(run: Reading, node: ast.Call, function: Value, name: str, arguments: Arguments, keywords: Keywords) -> Value:
    """What calling a value returns."""
    if isinstance(function, Function):
        if function.given or function.named:
            arguments = [*function.given, *arguments]
            keywords = {**function.named, **keywords}
        return _called(run, node, function, name, arguments, keywords)
    if isinstance(function, Class):
        return _made(run, node, function, arguments, keywords)
    if isinstance(function, Instance):
        return _instance_called(run, node, function, name, arguments, keywords)
    given = [*arguments, *keywords.values()]
    if isinstance(function, LossFunction):
        return objects.apply_loss(run, node, function, arguments, keywords)
    if isinstance(function, MetricObject):
        return methods.batch_value(run, node, function, given)
    if isinstance(function, Meter):
        return Fixed(node)
    if isinstance(function, Library):
        last = name_tables.last_of(function.path)
        if last == "partial" and arguments:
            return _partial(node, arguments, keywords)
        if last == "value_and_grad":
            return Unknown(node, "value_and_grad")
        return library.call_library(run, node, function.path, arguments, keywords)
    if isinstance(function, LoaderValue):
        return Rows(node, output=True) if any(is_of_batch(v) for v in given) else function
    if isinstance(function, Unknown):
        name = name or function.name
        if function.of_batch:
            return Rows(node, output=True)
        if name == "partial" and arguments:
            return _partial(node, arguments, keywords)
        return library.call_library(run, node, name or "it", arguments, keywords)
    if isinstance(function, (Fixed, Const)):
        return library.call_library(run, node, name, arguments, keywords)
    return Rows(node, output=True) if any(is_of_batch(v) for v in given) else Unknown(node)


def _partial(node: ast.Call, arguments: Arguments, keywords: Keywords) -> Value:
    function = arguments[0]
    if isinstance(function, Function):
        return replace(function, given=(*function.given, *arguments[1:]), named={**function.named, **keywords})
    if isinstance(function, Library) and name_tables.is_torch_loss(name_tables.last_of(function.path)):
        # A class's keywords and a function's are told apart by what follows the first two.
        return objects.loss_function(None, node, name_tables.last_of(function.path), [], keywords)  # type: ignore[arg-type]
    return function


def _called(
    run: Reading, node: ast.expr, function: Function, name: str, arguments: Arguments, keywords: Keywords
) -> Value:
    value = call_function(run, function, node, arguments, keywords)
    given = [*arguments, *keywords.values()]
    known = name_tables.by_name(name) if name else None
    if isinstance(value, Stat):
        if known is not None and value.quantity is Quantity.UNKNOWN:
            return replace(value, quantity=known[0], why=known[1], origin=node, node=node, call=node, plain=node)
        return replace(value, node=node, call=node, plain=node)
    vague = isinstance(value, (Unknown, Rows)) or (isinstance(value, Const) and value.value is None)
    if (
        vague
        and known is not None
        and any(is_of_batch(v) for v in given)
        and (not isinstance(value, Rows) or "loss" not in name)
    ):
        return stats.stat(run, node, *known)
    if (isinstance(value, Unknown) or _is_left_out(function, value)) and any(is_of_batch(v) for v in given):
        return library.by_name(run, node, name, given)
    if isinstance(value, Unknown) and any(isinstance(v, (Pool, Total)) for v in given):
        return Pool(node)
    return value


def _is_left_out(function: Function, value: Value) -> bool:
    """Whether another class is to fill in the body: it says ``pass``, or raises."""
    if not isinstance(value, Const) or value.value is not None or function.definition is None:
        return False
    body = function.definition.body
    return isinstance(body, list) and all(
        isinstance(part, (ast.Pass, ast.Raise)) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in body
    )


def call_function(run: Reading, function: Function, node: ast.AST, arguments: Arguments, keywords: Keywords) -> Value:
    """Read a function of this file with these arguments."""
    definition = function.definition
    if definition is None:
        return Unknown(node)
    if len(run.frames) >= MOST_CALLS or run.statements > MOST_STATEMENTS or run.spent.get(definition, 0) > MOST_IN_ONE:
        return Unknown(node, of_batch=any(is_of_batch(v) for v in arguments))
    if any(frame.function is definition for frame in run.frames):
        return Unknown(node, of_batch=any(is_of_batch(v) for v in arguments))
    frame = _frame(run, function, definition, arguments, keywords)
    run.read.add(definition)
    run.frames.append(frame)
    before = run.statements
    try:
        if isinstance(definition, ast.Lambda):
            return run.evaluate(run, definition.body)
        run.execute(run, definition.body)
    finally:
        run.frames.pop()
        run.spent[definition] = run.spent.get(definition, 0) + run.statements - before
    if frame.yields:  # a generator that is given a loader hands on its batches
        given = [*arguments, *keywords.values()]
        return next((value for value in given if isinstance(value, LoaderValue)), Unknown(node, frame.name))
    return _returned(node, frame.returns)


def _returned(node: ast.AST, returns: list[Value]) -> Value:
    if not returns:
        return Const(node, None)
    value = returns[0]
    for other in returns[1:]:
        value = join(value, other)
    return value


def _frame(
    run: Reading,
    function: Function,
    definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
    arguments: Arguments,
    keywords: Keywords,
) -> Frame:
    scope = Scope({}, function.scope)
    name = getattr(definition, "name", "<lambda>")
    me = function.me if isinstance(function.me, Instance) else None
    caller = run.frames[-1] if run.frames else None
    frame = Frame(scope, definition, name, me, caller=caller)
    frame.given = marks_of([*arguments, *keywords.values()])
    frame.keyed = run.index.keyed.get(definition, set())
    frame.quiet = name_tables.reads_as_evaluation(name) or any(
        "no_grad" in ast.dump(d) or "inference_mode" in ast.dump(d) for d in getattr(definition, "decorator_list", ())
    )
    frame.statement = caller.statement if caller is not None else None
    born = run.born()
    spec = definition.args
    places = [*spec.posonlyargs, *spec.args]
    values = list(arguments)
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in getattr(definition, "decorator_list", ()))
    if function.me is not None and not static:
        values = [function.me, *values]
    defaults: dict[str, ast.expr] = {}
    for place, default in zip(reversed(places), reversed(spec.defaults), strict=False):
        defaults[place.arg] = default
    for only, given in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        if given is not None:
            defaults[only.arg] = given
    for position, place in enumerate([*places, *spec.kwonlyargs]):
        if position < len(values) and position < len(places):
            value = values[position]
        elif place.arg in keywords:
            value = keywords[place.arg]
        elif place.arg in defaults:
            value = _default(run, place.arg, defaults[place.arg])
        else:
            value = named(place.arg, place, parameter=True)
        if isinstance(value, Unknown) and not value.name:
            value.name = place.arg
        if isinstance(value, Unknown) and not value.of_batch and not value.parameter:
            guess = named(place.arg, value.node or place)
            value = guess if isinstance(guess, LoaderValue) else value
        if isinstance(value, Unknown) and not value.of_batch and name_tables.reads_as_dataset(place.arg):
            value = value if name_tables.reads_as_dataset(value.name) else replace(value, name=place.arg)
        scope.names[place.arg] = Binding(value, born, None)
    if spec.vararg is not None:
        rest = values[len(places) :]
        scope.names[spec.vararg.arg] = Binding(Items(spec.vararg, list(rest), born=born), born)
    if spec.kwarg is not None:
        known = {p.arg for p in (*places, *spec.kwonlyargs)}
        rest_by_name = {k: Binding(v, born) for k, v in keywords.items() if k not in known}
        scope.names[spec.kwarg.arg] = Binding(Mapping(spec.kwarg, rest_by_name, born), born)
    return frame


def _default(run: Reading, name: str, node: ast.expr) -> Value:
    if isinstance(node, ast.Constant):
        if node.value is None or isinstance(node.value, (str, bool)):
            found = named(name, node, parameter=True)
            return found if not isinstance(found, Unknown) else Const(node, node.value)
        return Const(node, node.value)
    return run.evaluate(run, node)


def _made(run: Reading, node: ast.Call, of: Class, arguments: Arguments, keywords: Keywords) -> Value:
    """An instance, after its ``__init__``."""
    if of.definition is None:
        return Unknown(node)
    instance = Instance(node, of)
    if of.definition.name.endswith("Loader") and name_tables.reads_as_loader(of.definition.name):
        return objects.loader_of(run, node, arguments, keywords)
    if "Dataset" in of.definition.name:
        return Unknown(node, "dataset")
    initialize(run, instance, of, node, arguments, keywords)
    return instance


def initialize(
    run: Reading, instance: Instance, of: Class, node: ast.AST, arguments: Arguments, keywords: Keywords
) -> None:
    definition = of.definition
    assert definition is not None
    for statement in definition.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = run.evaluate(run, statement.value)
            instance.attributes[statement.targets[0].id] = Binding(value, run.born(), statement)
    start: ast.ClassDef | None = definition
    for _ in range(6):
        if start is None:
            return
        method = run.index.methods.get(start, {}).get("__init__")
        if method is not None:
            function = Function(node, method, of.scope or run.module, me=instance)
            call_function(run, function, node, arguments, keywords)
            return
        start = next(
            (run.index.classes[p.id] for p in start.bases if isinstance(p, ast.Name) and p.id in run.index.classes),
            None,
        )
        if start is definition:
            return


def in_method(run: Reading, instance: Instance, node: ast.expr) -> Value:
    """What an expression of some method holds, the method's own names unknown."""
    scope = Scope({"self": Binding(instance)}, instance.of.scope if instance.of is not None else run.module)
    if len(run.frames) >= MOST_CALLS:
        return Unknown(node)
    run.frames.append(Frame(scope, node, "", instance, caller=run.frames[-1] if run.frames else None))
    try:
        return run.evaluate(run, node)
    finally:
        run.frames.pop()


def _instance_called(
    run: Reading, node: ast.Call, instance: Instance, name: str, arguments: Arguments, keywords: Keywords
) -> Value:
    definition = instance.of.definition if instance.of is not None else None
    given = [*arguments, *keywords.values()]
    if definition is None:
        return Unknown(node, name, any(is_of_batch(v) for v in given))
    known = run.index.methods.get(definition, {})
    method = known.get("forward") or known.get("__call__")
    if method is None:
        return (
            library.by_name(run, node, definition.name, given) if any(is_of_batch(v) for v in given) else Unknown(node)
        )
    mentions = run.index.mentions[method]
    speaks_of_loss = name_tables.reads_as_loss(definition.name) or any(
        name_tables.reads_as_loss(word) for word in (*mentions.calls, *mentions.names)
    )
    if not speaks_of_loss:
        return Rows(node, output=True) if any(is_of_batch(v) for v in given) else Unknown(node)
    function = Function(node, method, instance.of.scope if instance.of is not None else None, me=instance)
    value = _called(run, node, function, definition.name, arguments, keywords)
    if isinstance(value, (Unknown, Const)) and any(is_of_batch(v) for v in given):
        return Rows(node, output=True)
    return value
