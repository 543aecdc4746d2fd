"""Which loops are over batches, and which over the samples of one; entering them, and what their targets hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.callables import Instance
from batchproof.scripts.source.frames import BatchLoop, OpenLoop
from batchproof.scripts.source.index import (
    FunctionNode,
    Iteration,
    Mentions,
    argument_of,
    builtin_of,
    callee_of,
    last_word,
    names_in,
)
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Loader
from batchproof.scripts.source.totals import Averaged, Items, LoopTotal, Mapping, Pool
from batchproof.scripts.source.values import (
    BatchRows,
    Const,
    Count,
    CountedThing,
    Dataset,
    Fixed,
    LoaderValue,
    Position,
    Shape,
    Stat,
    Unknown,
    Value,
    as_loader,
    worst,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

#: Calls around an iterable that hand on its items.
_AROUND = name_set(
    """
    tqdm track progress_bar islice cycle iter reversed list tqdm_notebook notebook_tqdm pbar ProgressBar
    MpDeviceLoader per_device_loader prepare Bar rich_tqdm prefetch chain log_every progressbar sorted alive_it
    auto_tqdm repeat Progbar progress wrap ParallelLoader DataPrefetcher data_prefetcher CUDAPrefetcher master_bar
    """
)
_EPOCH = re.compile(r"epoch|^e$|^ep$|fold|^seed|^trial|repeat|^run$|^round|era$")
_ONE_LOADER = re.compile(r"loader$|(^|_)dl$")
_ONE_BY_ONE = re.compile(r"(path|file|model|fold|seed|config|checkpoint|ckpt|trial|run|task|client|user|arg|param)s?$")
_ONE_BATCH = re.compile(
    r"batch|^data$|^(x|y|xb|yb|inputs?|images?|imgs?|labels?|targets?|samples?|features?|sent|batch_x|bx|by)$"
)
#: Functions that work on texts and lists as well: a loop that calls no others runs no model.
_PLAIN = name_set(
    """
    len append extend print range min max list tuple set str int float join lower strip split format write info sum
    """
)
#: `generate_batch(data, batch_size)`, `np.random.choice(n, batch_size)`: each turn takes one at random.
_DRAWS = re.compile(
    r"(generate|sample|draw|random|make|get)_?.*(batch|sample|data)|^(choice|randint|randperm|permutation)$"
)
STEPS = name_set(
    """
    backward zero_grad criterion loss_fn loss_function loss_func compute_loss cross_entropy mse_loss model net
    train_step train_on_batch validation_step val_step training_step test_step eval_step network forward
    loss_criterion get_loss calc_loss criterion_ce l1_loss nll_loss no_sync autocast generator discriminator encoder
    step_fn
    """
)
#: Of these the ones that say nothing of a model: a function may well add up one loss over several outputs.
_LOSSES = name_set(
    """
    criterion loss_fn loss_function loss_func compute_loss cross_entropy mse_loss loss_criterion get_loss calc_loss
    criterion_ce l1_loss nll_loss len range enumerate zip float int list append
    """
)
NEXT = name_set(
    """
    next get_batch next_batch sample_batch getbatch load_batch get_next_batch nextbatch get_minibatch random_batch
    sample make_batch generate_batch fetch_batch get_train_batch get_random_batch next_train_batch iterate_batch
    sample_data get_data next_train next_test next_val
    """
)  # fmt: skip
_NOT_BATCHES = name_set(
    """
    items keys values parameters named_parameters modules named_modules children param_groups glob listdir walk
    split readlines iterrows itertuples state_dict buffers product combinations permutations
    """
)


def unwrapped(node: ast.expr) -> tuple[ast.expr, bool, int]:
    """An iterable without ``tqdm`` and ``enumerate``; whether it was enumerated; from which number."""
    counted, start = False, 0
    for _ in range(8):
        name = callee_of(node)
        if not isinstance(node, ast.Call):
            break
        if name == "enumerate" and node.args:
            counted = True
            extra = argument_of(node, 1, "start")
            start = extra.value if isinstance(extra, ast.Constant) and isinstance(extra.value, int) else 0
            node = node.args[0]
            continue
        inner = argument_of(node, 0, "iterable") if name in _AROUND else None
        if inner is None:
            break
        node = inner
    return node, counted, start


def is_range(node: ast.AST | None) -> bool:
    """``range(n)``, ``trange(0, n, size)``, ``np.arange(0, n, size)``."""
    return callee_of(node) in {"range", "trange", "tnrange", "xrange", "arange"}


def over_samples(
    run: Interpreter, loop: Iteration, iterable: ast.expr, value: Value, mentions: Mentions | None
) -> bool:
    """Whether a loop goes over the samples of one batch, or over all samples that were collected."""
    if _is_samples(value):
        return True
    builtin = builtin_of(iterable)
    if not builtin or not isinstance(iterable, ast.Call):
        return False
    parts = [run.evaluate(a) for a in iterable.args if not isinstance(a, ast.Starred)]
    if builtin == "zip":
        return any(_is_samples(p) or (isinstance(p, Items) and p.of_samples and not p.entries) for p in parts)
    if builtin == "range" and parts:
        last = parts[-1] if len(parts) < 3 else parts[1]
        if isinstance(last, Count) and last.of is CountedThing.SAMPLES:
            return True
        return run.batch_loop() is not None and _indexes_rows(run, loop, mentions)
    return False


def _indexes_rows(run: Interpreter, loop: Iteration, mentions: Mentions | None) -> bool:
    """``for i in range(4): label = labels[i]``, of batches that are known to have as many."""
    if mentions is None or not isinstance(loop.target, ast.Name):
        return False
    bases = {base for base, key in mentions.rows if key == loop.target.id}
    held = (run.frame.scope.find(base) for base in bases)
    rows = (binding.value for binding in held if binding is not None)
    return any(isinstance(value, BatchRows) and value.raw and not value.whole and not value.output for value in rows)


def _is_samples(value: Value) -> bool:
    return isinstance(value, Pool) or (isinstance(value, BatchRows) and not value.output)


def over_batches(
    run: Interpreter, loop: Iteration, iterable: ast.expr, value: Value, mentions: Mentions | None
) -> str | None:
    """For a loop over batches "ragged" or "equal", for another None."""
    names = {n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)}
    builtin = builtin_of(iterable)
    if is_range(iterable) and isinstance(iterable, ast.Call):
        return _range_over_batches(run, iterable, names, mentions)
    if any(_ONE_LOADER.search(name.lower()) for name in names) and not isinstance(iterable, ast.Call):
        return None  # each item is a loader, which an inner loop goes over
    if _steps_over(run, iterable) and mentions is not None and mentions.cuts_by(names):
        return "ragged"
    if isinstance(value, LoaderValue):
        return _over_loader(run, value, mentions)
    if builtin == "zip" and isinstance(iterable, ast.Call):
        return _over_several(run, iterable, names, mentions)
    last = _last_name(iterable)
    if any(_EPOCH.search(name.lower()) for name in names) or _is_something_else(run, value, last, mentions):
        return None
    if last == "count":
        return "equal" if mentions is not None and mentions.calls & STEPS else None
    if name_tables.reads_as_loader(last) or _says_batches(iterable, last):
        return "ragged"
    works = mentions is not None and _works_on_batches(run, loop, value, names, last, mentions)
    return "ragged" if works else None


def _steps_over(run: Interpreter, iterable: ast.expr) -> bool:
    """``order[::size]``, in no other loop over batches."""
    step = (
        iterable.slice.step if isinstance(iterable, ast.Subscript) and isinstance(iterable.slice, ast.Slice) else None
    )
    return step is not None and run.batch_loop() is None


def _over_loader(run: Interpreter, value: LoaderValue, mentions: Mentions | None) -> str | None:
    if mentions is not None and not mentions.names and not mentions.calls:
        return None
    if value.cut and not _runs_a_model(run, mentions):
        return None
    return "ragged"


def _over_several(run: Interpreter, iterable: ast.Call, names: set[str], mentions: Mentions | None) -> str | None:
    """``zip(loader, other)``, ``zip(x.split(n), y.split(n))``, ``zip(range(0, end, n), range(n, end, n))``."""
    iterables = [unwrapped(part)[0] for part in iterable.args if not isinstance(part, ast.Starred)]
    if any(is_range(part) and len(getattr(part, "args", ())) == 3 for part in iterables):
        return "equal" if mentions is not None and mentions.cuts_by(names) else None
    loaders = [part for part in map(run.evaluate, iterables) if isinstance(part, LoaderValue)]
    if not loaders or (all(part.cut for part in loaders) and not _runs_a_model(run, mentions)):
        return None
    return "ragged"


def _is_something_else(run: Interpreter, value: Value, last: str, mentions: Mentions | None) -> bool:
    """Whether what is gone through is known, and is no batches: numbers, the entries of a dict, a part of a batch."""
    if last in _NOT_BATCHES or isinstance(value, (Mapping, Const, Averaged, Stat, Count, Shape)):
        return True
    if not last.endswith("batches") and _holds_something(value):
        return True
    return run.batch_loop() is not None and (value.is_of_batch() or mentions is None)


def _says_batches(iterable: ast.expr, last: str) -> bool:
    return "batch" in name_tables.plain(last) if isinstance(iterable, ast.Call) else last.endswith("batches")


def _works_on_batches(
    run: Interpreter,
    loop: Iteration,
    value: Value,
    names: set[str],
    last: str,
    mentions: Mentions,
) -> bool:
    """Whether a loop's body runs a model, or takes a step, on what reads like a batch."""
    target = loop.target
    steps = bool(mentions.calls & STEPS) or bool(mentions.names & {"backward", "criterion"})
    counted = unwrapped(loop.iter)[1] and isinstance(target, ast.Tuple)
    one = target.elts[-1] if counted and isinstance(target, ast.Tuple) and target.elts else target
    if not steps and _is_taken_apart(one) and not _ONE_BY_ONE.search(last.lower()):
        steps = _steps_in_a_function(run, mentions)
    if not steps or run.batch_loop() is not None:
        return False
    if isinstance(target, ast.Tuple) or isinstance(value, (Instance, Dataset)) or name_tables.reads_as_dataset(last):
        return True
    if any("batch" in name.lower() for name in names):
        return True
    return bool(mentions.calls - _LOSSES) and any(_ONE_BATCH.search(name) for name in names)


def _is_taken_apart(target: ast.expr) -> bool:
    """``x, y`` or ``batch``: how a loop names what a loader gives."""
    return isinstance(target, ast.Tuple) or (isinstance(target, ast.Name) and bool(_ONE_BATCH.search(target.id)))


def _steps_in_a_function(run: Interpreter, mentions: Mentions) -> bool:
    """Whether a function of this file that a loop calls runs a model or takes a step."""
    return any(
        run.index.mentions[function].all_calls & STEPS
        for name in mentions.calls & run.index.functions_by_name.keys()
        for function in run.index.functions_by_name[name]
    )


def _runs_a_model(run: Interpreter, mentions: Mentions | None) -> bool:
    if mentions is None or run.batch_loop() is not None:
        return False
    return bool(mentions.calls & STEPS) or _steps_in_a_function(run, mentions)


def _passes_over_tail(loop: ast.AST) -> bool:
    """Whether a batch that is not full ends the loop, or is passed over: ``if len(x) < batch_size: continue``."""
    return any(
        isinstance(part, ast.If)
        and isinstance(part.test, ast.Compare)
        and isinstance(part.body[-1], (ast.Break, ast.Continue))
        and _compares_size(part.test)
        for part in getattr(loop, "body", ())
    )


def _compares_size(test: ast.Compare) -> bool:
    sizes = [part for part in (test.left, test.comparators[0]) if _is_size(part)]
    bounds = [part for part in (test.left, test.comparators[0]) if part not in sizes]
    if isinstance(test.ops[0], (ast.Is, ast.Eq, ast.In, ast.NotIn)) or len(sizes) != 1:
        return False
    number = bounds[0].value if isinstance(bounds[0], ast.Constant) else None
    return number is None or (isinstance(number, int) and number >= 8)  # `if len(x) < 2` leaves short batches


def _is_size(node: ast.expr) -> bool:
    """``len(x)``, ``x.shape[0]``, ``x.size(0)``, ``i + batch_size``."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add)
    if isinstance(node, ast.Subscript):
        node = node.value  # x.shape[0], x.size()[0]
    return callee_of(node) in {"len", "size"} or last_word(node) == "shape"


def _range_over_batches(run: Interpreter, iterable: ast.Call, names: set[str], mentions: Mentions | None) -> str | None:
    if run.batch_loop() is not None or (mentions is not None and mentions.rolls_out):
        return None
    cuts = mentions is not None and mentions.cuts_by(names) and bool(mentions.calls - _PLAIN)
    if any(_EPOCH.search(name.lower()) for name in names) and not cuts:
        return None
    parts = [run.evaluate(a) for a in iterable.args]
    if len(parts) == 3:
        step = parts[2]
        batch_like = isinstance(step, Count) or (isinstance(step, Unknown) and "batch" in step.name.lower())
        if batch_like or cuts or (mentions is not None and mentions.calls & STEPS):
            return "ragged"
        return None
    if not parts or mentions is None:
        return None
    end = parts[-1]
    whole = isinstance(end, (Count, Unknown)) and end.floored
    if cuts and not (isinstance(end, Count) and end.of in {CountedThing.SAMPLES, CountedThing.DATASET}):
        return "equal" if whole else "ragged"
    takes = bool(mentions.calls & NEXT)
    queued = bool(mentions.calls & {"get", "get_nowait", "popleft"})
    works = bool(mentions.calls & STEPS) or takes or bool(mentions.takes_by & names)
    if isinstance(end, Count) and end.of is CountedThing.BATCHES and works:
        drawn = not (takes or queued or mentions.takes_by & names) and any(map(_DRAWS.search, mentions.calls))
        return "equal" if whole or drawn else "ragged"
    text = ast.unparse(iterable.args[-1])
    named = (
        name_tables.reads_as_batches(_last_name(iterable.args[-1])) or "batch" in text.lower() or "iter" in text.lower()
    )
    indexed = any("batch" in name.lower() for name in names)
    if takes and (mentions.calls & STEPS or mentions.names & {"backward"}):
        return "equal"
    if (named or indexed) and (mentions.calls & STEPS) and "epoch" not in text.lower():
        return "ragged" if queued or (not takes and mentions.takes_by & names) else "equal"
    return None


def _last_name(node: ast.expr) -> str:
    while True:
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Subscript):
            if (
                isinstance(node.slice, ast.Constant)
                and isinstance(node.slice.value, str)
                and name_tables.reads_as_loader(node.slice.value)
            ):
                return node.slice.value
            node = node.value
        elif isinstance(node, ast.Attribute):
            return node.attr
        elif isinstance(node, ast.Name):
            return node.id
        else:
            return ""


def enter(run: Interpreter, node: Iteration) -> Value:
    """Open a loop and bind what its target holds; what it goes over is handed back."""
    iterable, counted, start = unwrapped(node.iter)
    value = run.evaluate(iterable)
    opened = _open(run, node, iterable, value)
    _bind(run, node.target, iterable, value, opened, counted, start)
    return value


def enter_while(run: Interpreter, node: ast.While) -> None:
    run.evaluate(node.test)
    mentions = run.index.mentions[node]
    batch = None
    if run.batch_loop() is None and mentions.cuts_by(names_in(node.test)):
        batch = _batch_loop(run, node, None, Unknown(), equal=False)
    elif mentions.calls & NEXT and run.batch_loop() is None:
        whole = _until_the_end(node)
        if whole or mentions.calls & STEPS:
            batch = _batch_loop(run, node, None, Unknown(), equal=not whole)
    _push(run, node, batch)


def _until_the_end(node: ast.While) -> bool:
    """``while True`` with ``next(batches)``, which ``StopIteration`` ends."""
    handlers = (handler for part in ast.walk(node) if isinstance(part, ast.Try) for handler in part.handlers)
    return any(
        isinstance(handler.type, ast.Name)
        and handler.type.id == "StopIteration"
        and any(isinstance(part, ast.Break) for part in handler.body)
        for handler in handlers
    )


def enter_step(run: Interpreter, function: FunctionNode, evaluates: bool) -> OpenLoop:
    """A method that a trainer calls once for each batch."""
    batch = _batch_loop(run, function, None, Unknown(), equal=False)
    batch.evaluating = evaluates
    batch.backward = not evaluates
    batch.weighs = True
    return _push(run, function, batch)


def leave(run: Interpreter) -> None:
    run.loops.pop()


def _push(run: Interpreter, node: ast.AST, batch: BatchLoop | None = None, samples: bool = False) -> OpenLoop:
    run.marks += 1
    opened = OpenLoop(run.marks, node, run.frame, batch, samples)
    run.loops.append(opened)
    return opened


def _open(run: Interpreter, node: Iteration, iterable: ast.expr, value: Value) -> OpenLoop:
    mentions = run.index.mentions.get(node)
    if over_samples(run, node, iterable, value, mentions):
        return _push(run, node, samples=True)
    kind = over_batches(run, node, iterable, value, mentions)
    if kind is None:
        return _push(run, node)
    return _push(run, node, _batch_loop(run, node, iterable, value, equal=kind == "equal"))


def _batch_loop(run: Interpreter, node: ast.AST, iterable: ast.expr | None, value: Value, equal: bool) -> BatchLoop:
    batch = run.batch_loops.get(id(node))
    if batch is None:
        text = ast.unparse(iterable) if iterable is not None else ""
        batch = BatchLoop(node, iterable, text, equal=equal)  # type: ignore[arg-type]
        batch.full = _passes_over_tail(node)
        if is_range(iterable) and isinstance(iterable, ast.Call):
            batch.turns = ast.unparse(iterable.args[0]) if len(iterable.args) == 1 else ""
            batch.step = ast.unparse(iterable.args[2]) if len(iterable.args) == 3 else ""
        run.batch_loops[id(node)] = batch
    batch.equal = batch.equal or (
        run.index.rolls_out and (not isinstance(value, LoaderValue) or value.loader.built is None)
    )
    batch.over.append(value)
    if isinstance(value, LoaderValue):
        loader = value.loader
        batch.loaders.append(Loader(iterable, loader.built, loader.drops_last, loader.batch_size))
    elif isinstance(value, Dataset) and isinstance(node, ast.For) and "batch" not in ast.unparse(node.target):
        batch.loaders.append(Loader(iterable, batch_size=1))
    else:
        batch.loaders.append(Loader(iterable))
    batch.evaluating = batch.evaluating or any(frame.evaluating for frame in run.frames)
    return batch


def _bind(
    run: Interpreter,
    target: ast.expr,
    iterable: ast.expr,
    value: Value,
    opened: OpenLoop,
    counted: bool,
    start: int,
) -> None:
    batch = opened.batch
    counted = counted or (isinstance(value, LoaderValue) and value.counted)
    if counted and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        place: Value = Position(target.elts[0], batch, start > 0) if batch is not None else Fixed(target.elts[0])
        bind_target(run, target.elts[0], place)
        target = target.elts[1]
    bind_target(run, target, _item(run, iterable, value, opened, target))


def _item(run: Interpreter, iterable: ast.expr, value: Value, opened: OpenLoop, target: ast.expr) -> Value:
    """What one turn of a loop is given."""
    builtin = builtin_of(iterable)
    if opened.batch is not None:
        if is_range(iterable):
            return Position(target, opened.batch, offset=len(iterable.args) == 3)  # type: ignore[attr-defined]
        if builtin == "zip" and isinstance(target, ast.Tuple):
            return Items(target, [BatchRows(part, whole=True) for part in target.elts])
        return BatchRows(target, whole=True, raw=True)
    if builtin == "range":
        return Fixed(target)
    if opened.samples:
        return Pool(target) if isinstance(value, Pool) else BatchRows(target)
    if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Attribute):
        if iterable.func.attr in {"items", "values", "keys"}:
            return _item_of_mapping(run.evaluate(iterable.func.value), iterable.func.attr, target)
    elif builtin == "zip" and isinstance(target, ast.Tuple) and not _holds_something(value):
        assert isinstance(iterable, ast.Call)
        return Items(target, [_first_of(run.evaluate(argument)) for argument in iterable.args])
    return value.item(target)


def _holds_something(value: Value) -> bool:
    return isinstance(value, LoopTotal) or (isinstance(value, Items) and bool(value.entries or value.items))


def _first_of(value: Value) -> Value:
    if isinstance(value, Items) and value.items:
        return value.items[0]
    if isinstance(value, Items) and value.entries:
        return value.entries[-1].value
    return Unknown(value.node, "", value.is_of_batch())


def _item_of_mapping(base: Value, what: str, target: ast.expr) -> Value:
    """What a loop over the items, the values or the keys of a dict is given."""
    key = Fixed(target)
    if what == "keys":
        return key
    item: Value = Unknown(target, "", base.is_of_batch())
    if isinstance(base, Mapping) and base.entries:
        values = base.values()
        stats = [value for value in values if isinstance(value, Stat)]
        totals = [value for value in values if isinstance(value, (LoopTotal, Items, Averaged))]
        item = worst(stats) if stats else _any_of(totals) or values[0]
    return item if what == "values" else Items(target, [key, item])


def _any_of(values: Sequence[Value]) -> Value | None:
    """One value in place of several of a dict: lists that batches were added to hold all their entries."""
    lists = [value for value in values if isinstance(value, Items) and value.entries]
    if len(lists) < 2:
        return values[0] if values else None
    entries = [entry for value in lists for entry in value.entries]
    return Items(lists[0].node, [], entries, lists[0].created_in, start=lists[0].start)


def bind_target(run: Interpreter, target: ast.expr, value: Value) -> None:
    """Bind the names of a target, taking a value apart."""
    if isinstance(target, ast.Name):
        if isinstance(value, Unknown) and not value.name and not value.of_batch:
            value = as_loader(Unknown(value.node, target.id, False, value.parameter), target.id)
        run.assign(target, value)
        return
    if isinstance(target, ast.Starred):
        bind_target(run, target.value, value)
        return
    if isinstance(target, (ast.Tuple, ast.List)):
        for place, part in enumerate(target.elts):
            bind_target(run, part, value.part(run, place, part))
        return
    run.assign(target, value)
