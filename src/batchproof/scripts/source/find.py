"""Every place in a file where it averages over batches.

The file is read once as if it ran: the module's own statements first, calls followed into its functions with what they
are given, then every function that nothing called.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.scripts.source import calls, meters, name_tables, ranks
from batchproof.scripts.source.accumulators import as_stat, counted, mark_windows
from batchproof.scripts.source.callables import Class, Function, Instance
from batchproof.scripts.source.frames import Contribution, Frame, Scope
from batchproof.scripts.source.index import Index, Mentions, as_written, build_index
from batchproof.scripts.source.interpreter import Interpreter
from batchproof.scripts.source.loops import enter_step, leave
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Added, AverageSite, EpochLoop, Quantity, Script, Topic, Weight
from batchproof.scripts.source.values import BatchRows, Stat, Value, named


class TooDeep(BatchproofError):
    """A file's expressions are nested deeper than can be followed."""


def find(tree: ast.Module) -> Script:
    """The places in the order of their lines.

    Raises:
        TooDeep: the file's expressions are nested too deeply.
    """
    try:
        run = _read(tree)
        parts = _parts_of_running(run)
        sites = [
            site
            for entry in run.entries.values()
            if not (id(entry) in parts and all(average.inside for average in entry.averages.values()))
            and (site := _site(entry)) is not None
        ]
    except RecursionError:
        raise TooDeep("its expressions are nested too deeply to be followed") from None
    sites.sort(key=_line)
    _suspect_sums(run)
    ranks.found(run)
    suspicions = sorted(run.suspicions.values(), key=lambda d: getattr(d.node, "lineno", 0))
    return Script(tuple(sites), tuple(suspicions))


#: What a sum over batches of is no sum over samples.
_MEANS = (Quantity.MEAN, Quantity.NONLINEAR, Quantity.RATIO, Quantity.UNKNOWN)


def _suspect_sums(run: Interpreter) -> None:
    """Sums of means that are reported and that nothing divides."""
    for entry, name in run.undivided:
        stat = as_stat(entry)
        if entry.averages or stat is None or stat.divided is not None or counted(entry, stat).quantity not in _MEANS:
            continue
        if entry.window or entry.loop.equal or _is_scaled(entry):
            continue  # a few turns, or it is a part of an average already
        if stat.weight is Weight.NONE and _loop(entry).loader.batch_size != 1 and _reads_as_mean(entry, stat):
            run.suspect(Topic.SUM_OF_MEANS, entry.statement, f"{name} is the sum of the batches' means")


def _is_scaled(entry: Contribution) -> bool:
    """Whether what is added is a product or a quotient, as ``loss.item() / n``."""
    return isinstance(entry.written, ast.BinOp) and isinstance(entry.written.op, (ast.Div, ast.Mult))


def _reads_as_mean(entry: Contribution, stat: Stat) -> bool:
    """Whether the source shows a mean, or both names say a loss; a count may be called a score."""
    if stat.quantity is not Quantity.UNKNOWN:
        return True
    return "loss" in entry.name.lower() and "loss" in as_written(stat.origin).lower()


def _parts_of_running(run: Interpreter) -> set[int]:
    """Totals that are added up once more in their loop: that is the place to point at."""
    entries = run.entries.values()
    return {id(inner) for e in entries if isinstance(e.value, Stat) and e.averages for inner in e.value.inner}


def _line(site: AverageSite) -> tuple[int, int]:
    return getattr(site.add, "lineno", 0), getattr(site.add, "col_offset", 0)


def _read(tree: ast.Module) -> Interpreter:
    index = build_index(tree)
    module = Scope()
    run = Interpreter(index, module)
    run.frames.append(Frame(module, tree, keyed=index.keyed[tree]))
    if not _may_hold_places(index):
        return run
    run.execute(tree.body)
    instances: dict[ast.ClassDef, Instance] = {}
    for definition, methods in index.methods.items():
        if meters.is_lightning(definition, methods):
            _steps(run, _instance(run, instances, definition), methods)
    called: set[str] = set().union(*(mentions.all_calls for mentions in index.mentions.values()))
    # Those that something calls come last: by then they have mostly been read with what they are given.
    worth = {function.name for function, _ in index.nested if _is_worth_reading(index.mentions[function])}
    for function, owner in sorted(index.nested, key=lambda pair: pair[0].name in called):
        calls_one = function.name not in called and bool(index.mentions[function].all_calls & worth)
        if function in run.read or not (calls_one or _is_worth_reading(index.mentions[function])):
            continue
        me = _instance(run, instances, owner) if owner is not None and function in owner.body else None
        _start(run)
        run.call(Function(function, definition=function, scope=module, me=me), function, [], {})
    return run


#: Calls that a batch is worked with, or that build what it comes from.
_BATCH_CALLS = name_set("backward no_grad inference_mode criterion eval loss_fn step zero_grad item model")
_LOADER_CALLS = name_set("DataLoader DistributedSampler")
_REDUCES = name_set("all_reduce allreduce all_gather all_gather_object")


def _may_hold_places(found: Index) -> bool:
    """Whether there is a loop and something to add up at all; most files of a library have not both."""
    if any(meters.is_lightning(definition, methods) for definition, methods in found.methods.items()):
        return True
    loops = any(mentions.loops for mentions in found.mentions.values())
    calls: set[str] = set().union(*(mentions.all_calls for mentions in found.mentions.values()))
    works = bool(calls & (_BATCH_CALLS | _SUMS)) and any(
        "loss" in w or "oader" in w or "batch" in w for w in found.words
    )
    imports = any(path.partition(".")[0] == "torch" for path in found.imports.values())
    return bool(calls & _LOADER_CALLS) or (loops and (works or imports))


_SUMS = name_set("mean sum append update average log")


def _is_worth_reading(mentions: Mentions) -> bool:
    """Whether a function may average over batches, or make something else that is doubtful."""
    calls = mentions.all_calls
    builds = bool(calls & _LOADER_CALLS) or any(map(name_tables.reads_as_loader, calls))
    return (mentions.loops and (mentions.adds or bool(calls & _BATCH_CALLS))) or builds or bool(calls & _REDUCES)


def _start(run: Interpreter) -> None:
    run.loops.clear()
    del run.frames[1:]
    run.frames[0].statement = None
    run.frames[0].evaluating = False


def _instance(run: Interpreter, instances: dict[ast.ClassDef, Instance], definition: ast.ClassDef) -> Instance:
    """What ``self`` is where nothing makes one."""
    if definition not in instances:
        _start(run)
        of = Class(definition, definition=definition, scope=run.module)
        instances[definition] = calls.instantiate(run, of, definition, [], {})
    return instances[definition]


def _steps(run: Interpreter, me: Instance, methods: dict[str, Any]) -> None:
    """Lightning's methods: each step as the body of a loop, then what is called when the epoch ends."""
    for name in meters.steps_of(methods):
        step = methods[name]
        _start(run)
        opened = enter_step(run, step, name != "training_step")
        arguments: list[Value] = [BatchRows(argument, whole=True) for argument in step.args.args[1:2]]
        arguments += [named(argument.arg, argument, parameter=True) for argument in step.args.args[2:]]
        before = len(run.frames)
        returned = run.call(me.method(step, step), step, arguments, {})
        del run.frames[before:]
        outputs = meters.outputs_of(run, step, f"{name} outputs", returned, opened)
        leave(run)
        for end in meters.ends_of(methods, name):
            given = methods[end].args.args[1:2]
            run.call(me.method(step, methods[end]), step, [outputs] if given else [], {})


def _site(entry: Contribution) -> AverageSite | None:
    if not entry.averages:
        return None
    stat = as_stat(entry)
    if stat is None:
        return None
    stat = counted(entry, stat)
    mark_windows(entry)
    added = _added(entry, stat)
    if added is None:
        return None
    if stat.quantity is Quantity.RUNNING and any(inner.window for inner in stat.inner):
        return None
    return AverageSite(
        name=entry.name,
        loop=_loop(entry),
        add=entry.taken if entry.late and entry.taken is not None else entry.statement,
        added=added,
        starts=tuple(entry.starts.values()),
        averages=tuple(sorted(entry.averages.values(), key=lambda a: getattr(a.node, "lineno", 0))),
        reported=tuple(entry.reported),
        labels=tuple(entry.labels),
        function=entry.function,
    )


def _sides(node: ast.expr) -> tuple[tuple[ast.expr, ast.expr], ...]:
    """The two factors of a product, each with the other."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.FloorDiv)):
        node = node.left
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return (node.left, node.right), (node.right, node.left)
    return ()


def _added(entry: Contribution, stat: Stat) -> Added | None:
    node = entry.written or stat.plain or stat.call or stat.node
    if not isinstance(node, ast.expr):
        return None
    if stat.weight_node is not None:
        for side, other in _sides(node):
            if other is stat.weight_node:
                node = side
    return Added(
        node,
        stat.quantity,
        stat.why,
        stat.origin,
        stat.call,
        stat.weight,
        stat.weight_node,
        stat.twice,
        stat.steps,
        stat.named,
        stat.kept,
    )


def _loop(entry: Contribution) -> EpochLoop:
    loop = entry.loop
    loader = loop.loader()
    equal = loop.equal or (loop.full and all(average.own for average in entry.averages.values()))
    if equal and loader.drops_last is None:
        loader = replace(loader, drops_last=True)
    if loop.of_one or (loop.single and loader.built is None):
        loader = replace(loader, batch_size=1)
    return EpochLoop(loop.node, loader, loop.phase)
