"""Which loops are over batches, which over the samples of one, and what their targets hold."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

from batchproof.sites import knowledge
from batchproof.sites.index import Mentions
from batchproof.sites.parts import as_loader
from batchproof.sites.reading import OpenLoop, Reading
from batchproof.sites.site import Loader, Quantity
from batchproof.sites.values import (
    HARM,
    Averaged,
    BatchLoop,
    Const,
    Count,
    Dataset,
    Fixed,
    Instance,
    Items,
    Library,
    LoaderValue,
    Mapping,
    Of,
    Pool,
    Position,
    Rows,
    Shape,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)

#: Calls around an iterable that hand on its items.
_AROUND = frozenset(
    """
    tqdm trange track progress_bar islice cycle iter reversed list tqdm_notebook notebook_tqdm pbar ProgressBar
    MpDeviceLoader per_device_loader prepare Bar rich_tqdm prefetch chain log_every progressbar sorted alive_it
    auto_tqdm repeat Progbar progress wrap ParallelLoader DataPrefetcher data_prefetcher CUDAPrefetcher master_bar
    """.split()
)
_EPOCH = re.compile(r"epoch|^e$|^ep$|fold|^seed|^trial|repeat|^run$|^round|era$")
_ONE_LOADER = re.compile(r"loader$|(^|_)dl$")
_LOSS = re.compile(r"(^|_)loss$")
_ONE_BY_ONE = re.compile(r"(path|file|model|fold|seed|config|checkpoint|ckpt|trial|run|task|client|user|arg|param)s?$")
_ONE_BATCH = re.compile(
    r"batch|^data$|^(x|y|xb|yb|inputs?|images?|imgs?|labels?|targets?|samples?|features?|sent|batch_x|bx|by)$"
)
_STEPS = frozenset(
    """
    backward zero_grad criterion loss_fn loss_function loss_func compute_loss cross_entropy mse_loss model net
    train_step train_on_batch validation_step val_step training_step test_step eval_step network forward
    loss_criterion get_loss calc_loss criterion_ce l1_loss nll_loss no_sync autocast generator discriminator encoder
    step_fn
    """.split()
)
#: Of these the ones that say nothing of a model: a function may well add up one loss over several outputs.
_LOSSES = frozenset(
    """
    criterion loss_fn loss_function loss_func compute_loss cross_entropy mse_loss loss_criterion get_loss calc_loss
    criterion_ce l1_loss nll_loss len range enumerate zip float int list append
    """.split()
)
_NEXT = frozenset(
    """
    next get_batch next_batch sample_batch getbatch load_batch get_next_batch nextbatch get_minibatch random_batch
    sample make_batch generate_batch fetch_batch get_train_batch get_random_batch next_train_batch iterate_batch
    sample_data get_data next_train next_test next_val
    """.split()
)  # fmt: skip
_NOT_BATCHES = frozenset(
    """
    items keys values parameters named_parameters modules named_modules children param_groups glob listdir walk
    split readlines iterrows itertuples state_dict buffers product combinations permutations
    """.split()
)


def unwrapped(node: ast.expr) -> tuple[ast.expr, bool, int]:
    """An iterable without ``tqdm`` and ``enumerate``; whether it was enumerated; from which number."""
    counted, start = False, 0
    for _ in range(8):
        if not isinstance(node, ast.Call):
            break
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "enumerate" and node.args:
            counted = True
            extra = (
                node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "start"), None)
            )
            start = extra.value if isinstance(extra, ast.Constant) and isinstance(extra.value, int) else 0
            node = node.args[0]
        elif name in _AROUND and (node.args or node.keywords):
            inner = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "iterable"), None)
            if inner is None:
                break
            node = inner
        elif name in {"tqdm", "set_description"} and isinstance(node.func, ast.Attribute):
            break
        else:
            break
    return node, counted, start


def enter_for(run: Reading, node: ast.For | ast.AsyncFor) -> OpenLoop:
    iterable, counted, start = unwrapped(node.iter)
    value = run.evaluate(run, iterable)
    opened = _open(run, node, iterable, value, node.target, run.index.mentions.get(node))
    _bind(run, node.target, iterable, value, opened, counted, start)
    return opened


def enter_comprehension(run: Reading, generator: ast.comprehension) -> Value:
    """Open the loop of a comprehension; what it goes over is handed back."""
    iterable, counted, start = unwrapped(generator.iter)
    value = run.evaluate(run, iterable)
    opened = _open(run, generator, iterable, value, generator.target, None)
    _bind(run, generator.target, iterable, value, opened, counted, start)
    return value


def enter_while(run: Reading, node: ast.While) -> OpenLoop:
    mentions = run.index.mentions.get(node)
    batch = None
    if mentions is not None and mentions.calls & _NEXT and run.batch_loop() is None and mentions.calls & _STEPS:
        batch = _batch_loop(run, node, None, Unknown(), equal=True)
    return _push(run, node, batch)


def enter_step(run: Reading, function: ast.FunctionDef | ast.AsyncFunctionDef, evaluates: bool) -> OpenLoop:
    """A method that a trainer calls once for each batch."""
    batch = _batch_loop(run, function, None, Unknown(), equal=False)
    batch.quiet = evaluates
    batch.backward = not evaluates
    batch.weighs = True
    return _push(run, function, batch)


def leave(run: Reading) -> None:
    run.loops.pop()


def _push(run: Reading, node: ast.AST, batch: BatchLoop | None = None, samples: bool = False) -> OpenLoop:
    run.marks += 1
    opened = OpenLoop(run.marks, node, run.frame, batch, samples)
    run.loops.append(opened)
    return opened


def _open(
    run: Reading, node: ast.For | ast.AsyncFor | ast.comprehension, iterable: ast.expr, value: Value, target: ast.expr,
    mentions: Mentions | None,
) -> OpenLoop:  # fmt: skip
    if _over_samples(run, iterable, value):
        return _push(run, node, samples=True)
    kind = _over_batches(run, node, iterable, value, mentions)
    if kind is None:
        return _push(run, node)
    return _push(run, node, _batch_loop(run, node, iterable, value, equal=kind == "equal"))


def _batch_loop(run: Reading, node: ast.AST, iterable: ast.expr | None, value: Value, equal: bool) -> BatchLoop:
    batch = run.batch_loops.get(id(node))
    if batch is None:
        text = ast.unparse(iterable) if iterable is not None else ""
        batch = BatchLoop(node, iterable, text, equal=equal)  # type: ignore[arg-type]
        run.batch_loops[id(node)] = batch
    batch.over.append(value)
    if isinstance(value, LoaderValue):
        loader = value.loader
        batch.loaders.append(Loader(iterable, loader.built, loader.drops_last, loader.batch_size))
    elif isinstance(value, Dataset) and isinstance(node, ast.For) and "batch" not in ast.unparse(node.target):
        batch.loaders.append(Loader(iterable, batch_size=1))
    else:
        batch.loaders.append(Loader(iterable))
    batch.quiet = batch.quiet or any(frame.quiet for frame in run.frames)
    return batch


def _over_samples(run: Reading, iterable: ast.expr, value: Value) -> bool:
    """Whether a loop goes over the samples of one batch, or over all samples that were collected."""
    if isinstance(value, Pool) or (isinstance(value, Rows) and not value.output):
        return True
    if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name):
        parts = [run.evaluate(run, a) for a in iterable.args if not isinstance(a, ast.Starred)]
        if iterable.func.id == "zip":
            return any(
                isinstance(p, Pool)
                or (isinstance(p, Rows) and not p.output)
                or (isinstance(p, Items) and p.of_samples and not p.entries)
                for p in parts
            )
        if iterable.func.id == "range" and parts:
            last = parts[-1] if len(parts) < 3 else parts[1]
            return isinstance(last, Count) and last.of is Of.SAMPLES
    return False


def _over_batches(
    run: Reading, loop: ast.For | ast.AsyncFor | ast.comprehension, iterable: ast.expr, value: Value,
    mentions: Mentions | None,
) -> str | None:  # fmt: skip
    """For a loop over batches "ragged" or "equal", for another None."""
    target = loop.target
    names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range":
        return _range_over_batches(run, iterable, names, mentions)
    if any(_ONE_LOADER.search(name.lower()) for name in names) and not isinstance(iterable, ast.Call):
        return None  # each item is a loader, which an inner loop goes over
    if isinstance(value, LoaderValue):
        if mentions is not None and not (mentions.names or mentions.calls):
            return None
        return "ragged"
    if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "zip":
        parts = [run.evaluate(run, unwrapped(a)[0]) for a in iterable.args if not isinstance(a, ast.Starred)]
        if any(isinstance(p, LoaderValue) for p in parts):
            return "ragged"
        return None
    if any(_EPOCH.search(name.lower()) for name in names):
        return None
    last = _last_name(iterable)
    if isinstance(value, (Mapping, Const, Averaged, Stat, Count, Shape)):
        return None
    if (
        isinstance(value, (Items, Total))
        and not last.endswith("batches")
        and (isinstance(value, Total) or value.entries or value.items)
    ):
        return None
    if last in _NOT_BATCHES:
        return None
    if run.batch_loop() is not None and (is_of_batch(value) or mentions is None):
        return None
    if last == "count":
        return "equal" if mentions is not None and mentions.calls & _STEPS else None
    if isinstance(iterable, ast.Call):
        words = knowledge.plain(last)
        if "batch" in words or knowledge.reads_as_loader(last):
            return "ragged"
    elif knowledge.reads_as_loader(last) or last.endswith("batches"):
        return "ragged"
    if mentions is None:
        return None
    steps = bool(mentions.calls & _STEPS) or bool(mentions.names & {"backward", "criterion"})
    counted = unwrapped(loop.iter)[1] and isinstance(target, ast.Tuple)
    one = target.elts[-1] if counted and isinstance(target, ast.Tuple) and target.elts else target
    if not steps and _is_taken_apart(one) and not _ONE_BY_ONE.search(last.lower()):
        steps = _steps_in_a_function(run, mentions)
    if steps and run.batch_loop() is None:
        if any("batch" in name.lower() for name in names) or isinstance(value, Instance):
            return "ragged"
        if isinstance(target, ast.Tuple) or (mentions.calls - _LOSSES and any(_ONE_BATCH.search(n) for n in names)):
            return "ragged"
        if isinstance(value, Dataset) or knowledge.reads_as_dataset(last):
            return "ragged"
    return None


def _is_taken_apart(target: ast.expr) -> bool:
    """``x, y`` or ``batch``: how a loop names what a loader gives."""
    return isinstance(target, ast.Tuple) or (isinstance(target, ast.Name) and bool(_ONE_BATCH.search(target.id)))


def _steps_in_a_function(run: Reading, mentions: Mentions) -> bool:
    """Whether a function of this file that a loop calls runs a model or takes a step."""
    return any(
        run.index.mentions[function].all_calls & _STEPS
        for name in mentions.calls & run.index.functions_by_name.keys()
        for function in run.index.functions_by_name[name]
    )


def _range_over_batches(run: Reading, iterable: ast.Call, names: set[str], mentions: Mentions | None) -> str | None:
    if any(_EPOCH.search(name.lower()) for name in names) or run.batch_loop() is not None:
        return None
    parts = [run.evaluate(run, a) for a in iterable.args]
    if len(parts) == 3:
        step = parts[2]
        batch_like = isinstance(step, Count) or (isinstance(step, Unknown) and "batch" in step.name.lower())
        if batch_like or (mentions is not None and mentions.calls & _STEPS):
            return "ragged"
        return None
    if not parts or mentions is None:
        return None
    end = parts[-1]
    takes = bool(mentions.calls & _NEXT)
    queued = bool(mentions.calls & {"get", "get_nowait", "popleft"})
    if isinstance(end, Count) and end.of is Of.BATCHES:
        return "ragged"
    text = ast.unparse(iterable.args[-1])
    named = (
        knowledge.reads_as_batches(_last_name(iterable.args[-1])) or "batch" in text.lower() or "iter" in text.lower()
    )
    indexed = any("batch" in name.lower() for name in names)
    if takes and (mentions.calls & _STEPS or mentions.names & {"backward"}) and not run.loops_over_batches():
        return "equal"
    if (named or indexed) and (mentions.calls & _STEPS) and "epoch" not in text.lower():
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
                and knowledge.reads_as_loader(node.slice.value)
            ):
                return node.slice.value
            node = node.value
        elif isinstance(node, ast.Attribute):
            return node.attr
        elif isinstance(node, ast.Name):
            return node.id
        else:
            return ""


def _bind(
    run: Reading, target: ast.expr, iterable: ast.expr, value: Value, opened: OpenLoop, counted: bool, start: int
) -> None:
    batch = opened.batch
    counted = counted or (isinstance(value, LoaderValue) and value.counted)
    if counted and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        place: Value = Position(target.elts[0], batch, start > 0) if batch is not None else Fixed(target.elts[0])
        bind_target(run, target.elts[0], place)
        target = target.elts[1]
    bind_target(run, target, _item(run, iterable, value, opened, target))


def _item(run: Reading, iterable: ast.expr, value: Value, opened: OpenLoop, target: ast.expr) -> Value:
    """What one turn of a loop is given."""
    is_range = isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range"
    if opened.batch is not None:
        if is_range:
            return Position(target, opened.batch, offset=len(iterable.args) == 3)  # type: ignore[attr-defined]
        is_zip = isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "zip"
        if is_zip and isinstance(target, ast.Tuple):
            return Items(target, [Rows(t, whole=True) for t in target.elts])
        return Rows(target, whole=True, raw=True)
    if opened.samples:
        if is_range:
            return Fixed(target)
        return Pool(target) if isinstance(value, Pool) else Rows(target)
    if is_range:
        return Fixed(target)
    if (
        isinstance(iterable, ast.Call)
        and isinstance(iterable.func, ast.Attribute)
        and iterable.func.attr in {"items", "values", "keys"}
    ):
        return _item_of_mapping(run, iterable, target)
    if isinstance(value, Items):
        if value.entries:
            return _read_again(value.entries[-1].value)
        if value.items:
            first = value.items[0]
            if isinstance(first, Const) and any(i.value != first.value for i in value.items if isinstance(i, Const)):
                return Unknown(target)  # `for batch_size in (1, 16, 64)`
            return first
    if isinstance(value, Total):
        return value.entries[-1].value if value.listed and value.entries else value
    if (
        isinstance(iterable, ast.Call)
        and isinstance(iterable.func, ast.Name)
        and iterable.func.id == "zip"
        and isinstance(target, ast.Tuple)
    ):
        parts = [run.evaluate(run, a) for a in iterable.args]
        found: list[Value] = []
        for part in parts:
            if isinstance(part, Items) and part.items:
                found.append(part.items[0])
            elif isinstance(part, Items) and part.entries:
                found.append(part.entries[-1].value)
            else:
                found.append(Unknown(part.node, "", is_of_batch(part)))
        return Items(target, found)
    if isinstance(value, (Fixed, Library)):
        return Fixed(target)
    return Unknown(target, "", is_of_batch(value))


def _read_again(value: Value) -> Value:
    """A batch's value that is taken off a list later is not the loop's last one."""
    if isinstance(value, Stat):
        return replace(value, loop=None)
    if isinstance(value, Items) and not value.entries:
        return replace(value, items=[_read_again(item) for item in value.items])
    return value


def _item_of_mapping(run: Reading, iterable: ast.Call, target: ast.expr) -> Value:
    assert isinstance(iterable.func, ast.Attribute)
    base = run.evaluate(run, iterable.func.value)
    what = iterable.func.attr
    if what not in {"items", "values", "keys"}:
        return Unknown(target, "", is_of_batch(base))
    item: Value = Unknown(target, "", is_of_batch(base))
    if isinstance(base, Mapping) and base.entries:
        found = [b.value for b in base.entries.values()]
        item = _any_of([v for v in found if isinstance(v, (Total, Items, Averaged))]) or found[0]
        stats = [v for v in found if isinstance(v, Stat)]
        if stats:
            item = max(stats, key=lambda s: HARM.index(s.quantity))
    key = Fixed(target)
    if what == "keys":
        return key
    if what == "values":
        return item
    return Items(target, [key, item])


def _any_of(values: list[Value]) -> Value | None:
    """One value in place of several of a dict: lists that batches were added to hold all their entries."""
    lists = [value for value in values if isinstance(value, Items) and value.entries]
    if len(lists) < 2:
        return values[0] if values else None
    entries = [entry for value in lists for entry in value.entries]
    return Items(lists[0].node, [], entries, lists[0].born, start=lists[0].start)


def bind_target(run: Reading, target: ast.expr, value: Value) -> None:
    """Bind the names of a target, taking a value apart."""
    if isinstance(target, ast.Name):
        if isinstance(value, Unknown) and not value.name and not value.of_batch:
            value = as_loader(Unknown(value.node, target.id, False, value.parameter), target.id)
        run.assign(run, target, value)
        return
    if isinstance(target, ast.Starred):
        bind_target(run, target.value, value)
        return
    if isinstance(target, (ast.Tuple, ast.List)):
        for place, part in enumerate(target.elts):
            bind_target(run, part, part_of(run, value, place, len(target.elts), part))
        return
    run.assign(run, target, value)


def _calls(value: Value) -> dict[str, ast.expr]:
    """The expression that a part of its value was taken from, where it is one."""
    return {"call": value.node, "plain": value.node} if isinstance(value.node, ast.expr) else {}


def _named_part(value: Stat, target: ast.expr) -> Stat:
    """A part of what a function returns that is known by its name only: the part's own name says more."""
    known = knowledge.by_name(target.id) if isinstance(target, ast.Name) else None
    if known is None or not (value.named or value.quantity is Quantity.UNKNOWN):
        return value
    return replace(value, quantity=known[0], why=known[1], named=True)


def part_of(run: Reading, value: Value, place: int, parts: int, target: ast.expr) -> Value:
    if isinstance(value, Items) and not value.entries and value.items:
        return value.items[place if place < len(value.items) else -1]
    if isinstance(value, Items) and value.entries:
        return Total(target, tuple(value.entries), True)
    if isinstance(value, Shape):
        if place == 0:
            return Count(target, Of.SAMPLES, run.batch_loop()) if is_of_batch(value.of or value) else Unknown(target)
        return Fixed(target)
    if isinstance(value, Rows):
        if value.output and isinstance(target, ast.Name) and _LOSS.search(target.id):
            return Stat(target, Quantity.UNKNOWN, origin=value.node, loop=run.batch_loop(), **_calls(value))  # type: ignore[arg-type]
        return Rows(
            target, output=value.output, raw=value.raw, mask=isinstance(target, ast.Name) and "mask" in target.id
        )
    if isinstance(value, Stat):
        return _named_part(value, target)
    if isinstance(value, (Total, Averaged, Pool, Fixed)):
        return value
    if isinstance(value, Unknown):
        return Unknown(target, "", value.of_batch, value.parameter)
    return Unknown(target)
