"""What a call returns: of a function or class of the same file, read with these arguments; of a library, by name."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import labels, library, meters, methods, name_tables, ranks
from batchproof.scripts.source.callables import (
    Class,
    ExactObject,
    Function,
    Instance,
    Invocation,
    LossFunction,
    MetricObject,
    MetricsObject,
    loader_of,
    loss_function,
    metric_object,
)
from batchproof.scripts.source.frames import MOST_CALLS, MOST_IN_ONE, MOST_STATEMENTS, Binding, Frame, Scope
from batchproof.scripts.source.index import last_word
from batchproof.scripts.source.site import Quantity
from batchproof.scripts.source.totals import Items, LoopTotal, Mapping, Meter, Pool, join_all
from batchproof.scripts.source.values import (
    Arguments,
    BatchRows,
    Const,
    Fixed,
    Keywords,
    Library,
    LoaderValue,
    Stat,
    Unknown,
    Value,
    any_of_batch,
    key_of,
    named,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def call(run: Interpreter, node: ast.Call) -> Value:
    """``function(...)``, ``base.method(...)``."""
    if not isinstance(node.func, ast.Attribute):
        function = run.evaluate(node.func)
        call = _read(run, node, _name_of(node.func))
        if call.name == "print":
            labels.in_arguments(node.args, call.arguments)
        return ranks.called(run, call, apply(run, function, call), None, isinstance(function, Function))
    base = run.evaluate(node.func.value)
    call = _read(run, node, node.func.attr)
    if call.name == "format" and isinstance(base, Const):
        labels.in_format(base.value, call.arguments, call.keywords)
    if call.name == "__len__":
        return base.length(run, node, node.func.value)
    if call.name in {"log", "log_dict"} and meters.logged(run, base, call):
        return Fixed(node)
    if isinstance(base, Instance) and call.name == "eval" and methods.set_mode(run, base, call):
        return base
    if isinstance(base, (Library, Instance, Class)):
        function = _callee(run, node.func, base)
        return ranks.called(run, call, apply(run, function, call), None, isinstance(function, Function))
    return ranks.called(run, call, methods.call_method(run, base, call), base, is_own=False)


def _name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return f"{last_word(node.value)}_{key_of(node.slice)}"
    return node.id if isinstance(node, ast.Name) else ""


def _callee(run: Interpreter, node: ast.Attribute, base: Value) -> Value:
    if not isinstance(base, Class):
        return run.evaluate(node)
    method = run.index.methods.get(base.definition, {}).get(node.attr)
    return Unknown(node, node.attr) if method is None else Function(node, definition=method, scope=base.scope)


def _read(run: Interpreter, node: ast.Call, name: str) -> Invocation:
    arguments = [run.evaluate(argument) for argument in node.args]
    keywords: Keywords = {}
    for keyword in node.keywords:
        value = keywords[keyword.arg or "**"] = run.evaluate(keyword.value)
        if keyword.arg is None and isinstance(value, Mapping):
            keywords = {**{key: held.value for key, held in value.entries.items() if key != "*"}, **keywords}
    return Invocation(node, name, arguments, keywords)


def apply(run: Interpreter, function: Value, call: Invocation) -> Value:
    """What calling a value returns."""
    return _CALLED.get(type(function), _something_called)(run, function, call)


def _something_called(run: Interpreter, function: Value, call: Invocation) -> Value:
    return BatchRows(call.node, output=True) if call.is_given_batch() else Unknown(call.node)


def _loader_called(run: Interpreter, loader: LoaderValue, call: Invocation) -> Value:
    return BatchRows(call.node, output=True) if call.is_given_batch() else loader


def _loss_called(run: Interpreter, loss: LossFunction | MetricObject, call: Invocation) -> Value:
    return loss.of(run, call.node, call.given)


def _exact_called(run: Interpreter, metric: ExactObject, call: Invocation) -> Value:
    """The batch's own value, as the function gives it."""
    name = metric.function.definition if isinstance(metric.function, Function) else metric.function
    value = apply(run, metric.function, replace(call, name=getattr(name, "name", "")))
    if not isinstance(value, Stat):
        return value
    if value.quantity is Quantity.UNKNOWN:
        why = "`batchproof.exact` is there for what is no mean over samples"
        return value.derived(call.node, quantity=Quantity.NONLINEAR, why=why, origin=call.node, named=True, kept=True)
    return value.derived(call.node, kept=True)


def _meter_called(run: Interpreter, meter: Meter, call: Invocation) -> Value:
    return Fixed(call.node)


def _number_called(run: Interpreter, number: Fixed | Const, call: Invocation) -> Value:
    return library.call_library(run, call, call.name)


def _library_called(run: Interpreter, function: Library, call: Invocation) -> Value:
    last = name_tables.last_of(function.path)
    if last == "partial" and call.arguments:
        return _partial(call)
    if function.given or function.named:
        call = replace(call, arguments=[*function.given, *call.arguments], keywords={**function.named, **call.keywords})
    if last == "value_and_grad":
        return Unknown(call.node, last)
    return library.call_library(run, call, function.path)


def _unknown_called(run: Interpreter, function: Unknown, call: Invocation) -> Value:
    name = call.name or function.name
    if function.of_batch:
        return BatchRows(call.node, output=True)
    if name == "partial" and call.arguments:
        return _partial(call)
    return library.call_library(run, call, name or "it")


def _partial(call: Invocation) -> Value:
    function = call.arguments[0]
    if isinstance(function, Function):
        given, named = (*function.given, *call.arguments[1:]), {**function.named, **call.keywords}
        return replace(function, given=given, named=named)
    if isinstance(function, Library) and name_tables.is_torch_loss(name_tables.last_of(function.path)):
        # A class's keywords and a function's are told apart by what follows the first two.
        return loss_function(call.node, name_tables.last_of(function.path), [], call.keywords)
    if isinstance(function, Library):
        return replace(
            function,
            given=(*function.given, *call.arguments[1:]),
            named={**function.named, **call.keywords},
        )
    return function


def _function_called(run: Interpreter, function: Function, call: Invocation) -> Value:
    if function.given or function.named:
        arguments, keywords = [*function.given, *call.arguments], {**function.named, **call.keywords}
        call = replace(call, arguments=arguments, keywords=keywords)
    value = call_function(run, function, call.node, call.arguments, call.keywords)
    name, node = call.name, call.node
    known = name_tables.by_name(name) if name else None
    if isinstance(value, Stat):
        if known is not None and value.quantity is Quantity.UNKNOWN:
            by_name = known[0] is Quantity.NONLINEAR
            return value.derived(node, quantity=known[0], why=known[1], origin=node, named=by_name)
        return value.derived(node)
    if isinstance(value, Unknown) and not call.is_given_batch():
        return Pool(node) if any(isinstance(v, (Pool, LoopTotal)) for v in call.given) else value
    if known is not None and call.is_given_batch() and _is_vague(value, name):
        stat = run.stat(node, *known)
        stat.named = known[0] is Quantity.NONLINEAR
        return stat
    if (isinstance(value, Unknown) or _is_left_out(function, value)) and call.is_given_batch():
        return library.by_name(run, node, name, call.given)
    return value


def _is_vague(value: Value, name: str) -> bool:
    """Whether a function's name says more than what it was seen to return."""
    if isinstance(value, BatchRows):
        return "loss" not in name
    return isinstance(value, Unknown) or (isinstance(value, Const) and value.value is None)


def _is_left_out(function: Function, value: Value) -> bool:
    """Whether another class is to fill in the body: it says ``pass``, or raises."""
    if not isinstance(value, Const) or value.value is not None:
        return False
    body = function.definition.body
    return isinstance(body, list) and all(
        isinstance(part, (ast.Pass, ast.Raise)) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in body
    )


def call_function(
    run: Interpreter, function: Function, node: ast.AST, arguments: Arguments, keywords: Keywords
) -> Value:
    """Read a function of this file with these arguments."""
    definition = function.definition
    spent = run.statements > MOST_STATEMENTS or run.spent.get(definition, 0) > MOST_IN_ONE
    if spent or len(run.frames) >= MOST_CALLS or any(frame.function is definition for frame in run.frames):
        return Unknown(node, of_batch=any_of_batch(arguments))
    given = [*arguments, *keywords.values()]
    frame = _frame(run, function, given)
    _bind_parameters(run, function, frame.scope, arguments, keywords)
    run.read.add(definition)
    run.frames.append(frame)
    before = run.statements
    try:
        if isinstance(definition, ast.Lambda):
            return run.evaluate(definition.body)
        run.execute(definition.body)
    finally:
        run.frames.pop()
        run.spent[definition] = run.spent.get(definition, 0) + run.statements - before
    if frame.yields:  # a generator that is given a loader hands on its batches
        return next((value for value in given if isinstance(value, LoaderValue)), Unknown(node, frame.name))
    return join_all(frame.returns) if frame.returns else Const(node, None)


def _frame(run: Interpreter, function: Function, given: list[Value]) -> Frame:
    definition = function.definition
    name = getattr(definition, "name", "<lambda>")
    caller = run.frames[-1] if run.frames else None
    decorators = [ast.dump(decorator) for decorator in getattr(definition, "decorator_list", ())]
    return Frame(
        Scope({}, function.scope),
        definition,
        name,
        function.me if isinstance(function.me, Instance) else None,
        statement=caller.statement if caller is not None else None,
        caller=caller,
        given={value.mark for value in given if isinstance(value, (Stat, Unknown))},
        handed={value.mark for value in given},
        evaluating=name_tables.reads_as_evaluation(name)
        or any("no_grad" in text or "inference_mode" in text for text in decorators),
        keyed=run.index.keyed.get(definition, set()),
    )


def _bind_parameters(
    run: Interpreter, function: Function, scope: Scope, arguments: Arguments, keywords: Keywords
) -> None:
    spec = function.definition.args
    places = [*spec.posonlyargs, *spec.args]
    values = arguments if function.me is None or _is_static(function) else [function.me, *arguments]
    known = {place.arg: value for place, value in zip(places, values, strict=False)}
    defaults = _defaults(spec)
    created_in = run.open_marks()
    for parameter in (*places, *spec.kwonlyargs):
        name = parameter.arg
        value = known.get(name) or keywords.get(name)
        if value is None and name in defaults:
            value = _default(run, name, defaults[name])
        if value is None:
            value = named(name, parameter, parameter=True)
        scope.names[name] = Binding(_as_parameter(value, parameter), created_in, None)
    if spec.vararg is not None:
        rest = values[len(places) :]
        scope.names[spec.vararg.arg] = Binding(Items(spec.vararg, rest, created_in=created_in), created_in)
    if spec.kwarg is not None:
        names = {parameter.arg for parameter in (*places, *spec.kwonlyargs)}
        rest_by_name = {k: Binding(v, created_in) for k, v in keywords.items() if k not in names}
        scope.names[spec.kwarg.arg] = Binding(Mapping(spec.kwarg, rest_by_name, created_in), created_in)


def _is_static(function: Function) -> bool:
    decorators = getattr(function.definition, "decorator_list", ())
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in decorators)


def _defaults(spec: ast.arguments) -> dict[str, ast.expr]:
    places = [*spec.posonlyargs, *spec.args]
    positional = zip(reversed(places), reversed(spec.defaults), strict=False)
    only = zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    return {place.arg: default for place, default in (*positional, *only) if default is not None}


def _as_parameter(value: Value, parameter: ast.arg) -> Value:
    """A value of which nothing is known takes the meaning of the parameter that it is given for."""
    name = parameter.arg
    if not isinstance(value, Unknown):
        return value
    if not value.name:
        value.name = name
    if value.of_batch:
        return value
    guess = named(name, value.node or parameter) if not value.parameter else value
    if isinstance(guess, LoaderValue):
        return guess
    dataset = name_tables.reads_as_dataset(name) and not name_tables.reads_as_dataset(value.name)
    return replace(value, name=name) if dataset else value


def _default(run: Interpreter, name: str, node: ast.expr) -> Value:
    if isinstance(node, ast.Constant):
        if node.value is None or isinstance(node.value, (str, bool)):
            value = named(name, node, parameter=True)
            return value if not isinstance(value, Unknown) else Const(node, node.value)
        return Const(node, node.value)
    return run.evaluate(node)


def _class_called(run: Interpreter, of: Class, call: Invocation) -> Value:
    """An instance, after its ``__init__``."""
    name = of.definition.name
    if name.endswith("Loader") and name_tables.reads_as_loader(name):
        return loader_of(call)
    if "Dataset" in name:
        return Unknown(call.node, "dataset")
    for base in (run.evaluate(base) for inherited in run.index.lineage(of.definition) for base in inherited.bases):
        metric = metric_object(base.path, call.node) if isinstance(base, Library) else None
        if metric is not None:
            known = name_tables.by_name(name) if metric.quantity is Quantity.UNKNOWN else None
            return replace(metric, name=name, quantity=known[0], why=known[1]) if known is not None else metric
    return instantiate(run, of, call.node, call.arguments, call.keywords)


def instantiate(run: Interpreter, of: Class, node: ast.AST, arguments: Arguments, keywords: Keywords) -> Instance:
    """An instance of a class of the file, after its ``__init__``."""
    instance = Instance(node, of=of)
    for statement in of.definition.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = run.evaluate(statement.value)
            instance.attributes[statement.targets[0].id] = Binding(value, run.open_marks(), statement)
    inits = (run.index.methods.get(c, {}).get("__init__") for c in run.index.lineage(of.definition))
    method = next((init for init in inits if init is not None), None)
    if method is not None:
        call_function(run, instance.method(node, method), node, arguments, keywords)
    return instance


def in_method(run: Interpreter, instance: Instance, node: ast.expr) -> Value:
    """What an expression of some method holds, the method's own names unknown."""
    scope = Scope({"self": Binding(instance)}, instance.of.scope)
    if len(run.frames) >= MOST_CALLS:
        return Unknown(node)
    run.frames.append(Frame(scope, node, "", instance, caller=run.frames[-1] if run.frames else None))
    try:
        return run.evaluate(node)
    finally:
        run.frames.pop()


def _instance_called(run: Interpreter, instance: Instance, call: Invocation) -> Value:
    definition, node, of_batch = instance.of.definition, call.node, call.is_given_batch()
    methods_by_name = run.index.methods.get(definition, {})
    method = methods_by_name.get("forward") or methods_by_name.get("__call__")
    if method is None:
        return library.by_name(run, node, definition.name, call.given) if of_batch else Unknown(node)
    output = BatchRows(node, output=True) if of_batch else Unknown(node)
    mentions = run.index.mentions[method]
    if not any(name_tables.reads_as_loss(word) for word in (definition.name, *mentions.calls, *mentions.names)):
        return output
    value = _function_called(run, instance.method(node, method), replace(call, name=definition.name))
    return output if isinstance(value, (Unknown, Const)) and of_batch else value


_CALLED: dict[type[Value], Callable[..., Value]] = {
    Function: _function_called,
    Class: _class_called,
    Instance: _instance_called,
    LossFunction: _loss_called,
    MetricObject: _loss_called,
    MetricsObject: _loss_called,
    ExactObject: _exact_called,
    Meter: _meter_called,
    Library: _library_called,
    LoaderValue: _loader_called,
    Unknown: _unknown_called,
    Fixed: _number_called,
    Const: _number_called,
}
