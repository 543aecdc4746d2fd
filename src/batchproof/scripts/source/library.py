"""What calls of torch, numpy, scikit-learn and the builtins return: numbers, and losses, metrics and loaders."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batchproof.scripts.source import name_tables, suspicions
from batchproof.scripts.source.arithmetic import is_transposed
from batchproof.scripts.source.callables import (
    ExactObject,
    Invocation,
    LossFunction,
    loader_of,
    loss_function,
    metric_object,
    metrics_object,
)
from batchproof.scripts.source.index import argument_of, builtin_of, callee_of
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.totals import Averaged, Items, LoopTotal, Mapping, Meter, Pool
from batchproof.scripts.source.values import (
    REDUCTIONS,
    BatchRows,
    Const,
    Count,
    CountedThing,
    Dataset,
    Fixed,
    Library,
    LoaderValue,
    Position,
    Stat,
    Unknown,
    Value,
    is_vague,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

#: What hands back models, optimizers and loaders made ready for a device.
PREPARES = "prepare setup_dataloaders auto_dataloader prepare_data_loader"

_Reader = Callable[["Interpreter", Invocation], Value | None]

#: Functions that take a list as a list of numbers, whatever it holds.
_SEES_A_LIST = name_set("len sum mean average fmean list tuple array asarray tensor enumerate zip")
#: Loaders of torch and of graph libraries; a class of another name that ends in ``DataLoader`` is one as well.
_LOADERS = name_set("DataListLoader NeighborLoader")
#: Times, random numbers, and what else no batch goes into.
_FIXED = name_set(
    """
    time perf_counter process_time monotonic now timer default_timer get_lr get_last_lr rand random randint uniform
    clip_grad_norm_ clip_grad_norm manual_seed seed cpu_count current_device memory_allocated max_memory_allocated
    strftime open load Path join exists makedirs print device
    """
)
#: Metrics that average what they are given.
_MEANS = name_set("MeanMetric Mean Average RunningMean")
#: Packages whose functions do what their names say.
_KNOWN_PACKAGES = name_set(
    "torch sklearn torchmetrics torcheval torch_geometric skimage scipy monai numpy math evaluate seqeval sacrebleu "
    "jiwer nltk lifelines segmentation_models_pytorch timm transformers torchvision pytorch_msssim kornia"
)
#: Functions that make a tensor of what they are given, element by element.
_COPIES = name_set("tensor array as_tensor asarray FloatTensor Tensor")


def call_library(run: Interpreter, call: Invocation, path: str) -> Value:
    """The value of a call by a dotted path."""
    name = name_tables.last_of(path)
    call = replace(call, name=name)
    if name.endswith("DataLoader") or name in _LOADERS:
        suspicions.built_loader(run, call.node, argument_of(call.node, 99, "drop_last"))
        return _loader(call, path)
    metric = _metric_object(run, call, path)
    if metric is not None:
        return metric
    if path.startswith(("torch.optim", "optim.")):
        return Fixed(call.node)
    if name not in _SEES_A_LIST and any(isinstance(v, Pool) or _holds_rows(v) for v in call.given):
        return Pool(call.node)
    if name_tables.is_torch_loss(name):
        is_class = name[:1].isupper()
        loss = loss_function(call.node, name, call.arguments if is_class else [], call.keywords)
        if is_class and not any(isinstance(v, BatchRows) for v in call.arguments[:2]):
            return loss
        return loss.of(run, call.node, call.arguments[:2])
    known = _READERS.get(name)
    value = known(run, call) if known is not None else None
    if value is not None:
        return value
    if not call.is_given_batch():
        return _not_of_batch(call.node, name, path)
    value = by_name(run, call.node, name, call.given)
    if isinstance(value, Stat) and value.quantity is not Quantity.MEAN and path.partition(".")[0] in _KNOWN_PACKAGES:
        value.named = False
    squared = call.keywords.get("squared")
    if isinstance(value, Stat) and isinstance(squared, Const) and squared.value is False:
        return value.nonlinear(call.node, "the square root")  # mean_squared_error(..., squared=False)
    return value


def _metric_object(run: Interpreter, call: Invocation, path: str) -> Value | None:
    """An object that keeps what it needs over batches: a meter where it averages what it is given."""
    if path == "batchproof.exact" and call.first is not None:
        return ExactObject(call.node, call.name, function=call.first)
    metric = metric_object(path, call.node)
    if metric is None or (call.name == "load" and not path.startswith("evaluate")):
        return None
    if call.name == "MetricCollection":
        return metrics_object(call)
    return Meter(call.node, call.name, created_in=run.open_marks()) if call.name in _MEANS else metric


def _loader(call: Invocation, path: str) -> LoaderValue:
    value = loader_of(call)
    foreign = "." in path and not path.startswith(("torch", "pytorch", "data.", "utils."))
    if foreign and value.loader.batch_size == 1 and "batch_size" not in call.keywords and len(call.arguments) < 2:
        return replace(value, loader=replace(value.loader, batch_size=None))  # torch's own makes batches of one
    return value


def by_name(run: Interpreter, node: ast.expr, name: str, given: list[Value]) -> Value:
    """What a function of a batch returns that is known by its name only."""
    if _leaves_targets_out(run, node):
        return run.stat(node, Quantity.RATIO, "it divides by how many targets of the batch are not ignored")
    known = name_tables.by_name(name) if not _is_builtin(node) else None
    if known is not None:
        quantity, why = known
        if any(isinstance(v, BatchRows) and v.pairs for v in given) and quantity is Quantity.MEAN:
            quantity, why = Quantity.COUPLED, "each sample is compared with the others of its batch"
        stat = run.stat(node, quantity, why)
        stat.named = True
        return stat
    if any(isinstance(v, Stat) for v in given) and not any(isinstance(v, BatchRows) for v in given):
        first = next(v for v in given if isinstance(v, Stat))
        return first.derived(node)
    if name_tables.reads_as_loss(name) and not name_tables.reads_as_no_result(name):
        return run.stat(node, Quantity.UNKNOWN)
    if any(isinstance(v, BatchRows) for v in given):
        return BatchRows(node, output=True, pairs=any(isinstance(v, BatchRows) and v.pairs for v in given))
    return Unknown(node, name, True)


def _is_builtin(node: ast.expr) -> bool:
    """Whether a call is of a function of Python's own, as ``map``, which reads like a metric."""
    return hasattr(builtins, builtin_of(node) or "?")


def _leaves_targets_out(run: Interpreter, node: ast.expr) -> bool:
    """Whether a loss is given an ``ignore_index``, or is known to have one: ``criterion.ignore_index`` is read."""
    if not isinstance(node, ast.Call):
        return False
    callee = callee_of(node)
    return any(k.arg == "ignore_index" for k in node.keywords) or "ignore_index" in run.index.read_off.get(callee, ())


def _holds_rows(value: Value) -> bool:
    entries = value.contributions if isinstance(value, (LoopTotal, Items)) else ()
    return any(isinstance(entry.value, (BatchRows, Pool)) for entry in entries)


def _not_of_batch(node: ast.expr, name: str, path: str) -> Value:
    if name in _FIXED or path.startswith(("time.", "os.", "random.", "logging.", "datetime.")):
        return Fixed(node)
    if name_tables.reads_as_meter(name):
        return Meter(node, name)
    if name[:1].isupper():
        words = name_tables.plain(name)
        if name_tables.reads_as_loader(name):
            return LoaderValue(node, Loader(node))
        known = name_tables.by_name(name)
        if known is not None and (words.endswith("loss") or "criterion" in words or known[0] is Quantity.COUPLED):
            return LossFunction(node, name, *known)
        if "dataset" in words:
            return Dataset(node)
        return Unknown(node, name)
    if name_tables.reads_as_loader(name) and ("get" in name or "build" in name or "make" in name or "create" in name):
        return LoaderValue(node, Loader(node)) if not name.endswith("s") else Unknown(node, name)
    return Unknown(node, name)


def _length(run: Interpreter, call: Invocation) -> Value | None:
    return call.first and call.first.length(run, call.node, call.node.args[0] if call.node.args else None)


def _mapped(run: Interpreter, call: Invocation) -> Value | None:
    """``map(function, items)``: as many as there were, a batch's parts or a list's entries."""
    if not isinstance(call.node.func, ast.Name) or len(call.arguments) < 2:
        return None
    items = call.arguments[-1]
    if isinstance(items, (LoaderValue, LoopTotal, Pool)) or (isinstance(items, Items) and items.entries):
        return items
    return BatchRows(call.node) if items.is_of_batch() else Unknown(call.node, "map")


def _prepared(run: Interpreter, call: Invocation) -> Value | None:
    """``model, loader = accelerator.prepare(model, loader)``: what it is given, in that order."""
    return call.first if len(call.arguments) < 2 else Items(call.node, list(call.arguments), tuple_=True)


def _parts(run: Interpreter, call: Invocation) -> Value | None:
    """``torch.split(x, size)``: batches, where a loop runs a model on them."""
    size = call.arguments[1] if len(call.arguments) > 1 else None
    if size is None or call.is_given_batch() or isinstance(size, Items) or is_text(size):
        return None
    return LoaderValue(call.node, Loader(call.node), cut=True)


def is_text(value: Value) -> bool:
    return isinstance(value, Const) and isinstance(value.value, str)


def _folded(run: Interpreter, call: Invocation) -> Value | None:
    """``reduce(operator.add, losses)``."""
    items = call.arguments[1] if len(call.arguments) > 1 else None
    return items.sum(run, call.node) if isinstance(items, (Items, LoopTotal)) else None


def _reduction(run: Interpreter, call: Invocation) -> Value | None:
    first = call.first
    if first is None:
        return None
    builtin = isinstance(call.node.func, ast.Name)
    if call.name in {"max", "min"} and (builtin or len(call.arguments) > 1):
        return _largest_of(call) if builtin else _largest(call, first)
    weights = call.keywords.get("weights")
    if call.name == "average" and weights is not None and isinstance(first, (LoopTotal, Items)):
        first = LoopTotal(first.node, first.contributions, True, weights)
    whole = call.name == "norm" and isinstance(first, BatchRows) and not call.keywords.keys() & {"dim", "axis"}
    return first.reduce(run, call.node, call.name, None if whole else call.dimension(1))


def _largest(call: Invocation, first: Value) -> Value:
    """``torch.max(x, 1)``."""
    return BatchRows(call.node, output=first.output) if isinstance(first, BatchRows) else first


def _largest_of(call: Invocation) -> Value:
    """``max(best, loss)``, and ``max(losses)``."""
    for value in call.arguments:
        if isinstance(value, (Stat, LoopTotal, Averaged, Count, Position)):
            return value
    if len(call.arguments) == 1 and isinstance(call.first, Items):
        return Fixed(call.node)
    return next((value for value in call.arguments if value.is_of_batch()), Fixed(call.node))


def _nonlinear(run: Interpreter, call: Invocation) -> Value | None:
    if call.first is None:
        return None
    exponent = call.arguments[1] if len(call.arguments) > 1 else None
    if call.name == "pow" and isinstance(exponent, Const) and exponent.value == 1:
        return call.first
    return call.first.nonlinear(call.node, name_tables.NONLINEAR_STEPS[call.name])


def _handed_on(run: Interpreter, call: Invocation) -> Value | None:
    return call.first


def _made(kind: type[Value], **known: Any) -> _Reader:
    """A function that makes a value of this kind, whatever it is given."""
    return lambda run, call: kind(call.node, **known)


def _sampler(run: Interpreter, call: Invocation) -> Value:
    drops = call.keywords.get("drop_last")
    suspicions.sampler(run, call.node, isinstance(drops, Const) and bool(drops.value))
    return Fixed(call.node)


def _array(run: Interpreter, call: Invocation) -> Value:
    return Items(call.node, created_in=run.open_marks(), array=True, start=run.frame.statement)


def _tensor(run: Interpreter, call: Invocation) -> Value:
    """``torch.tensor(losses)``, ``torch.cat(outputs)``."""
    first = call.first
    if isinstance(first, LoopTotal) and _all_rows(first):
        return Pool(call.node)
    if isinstance(first, Items):
        return _tensor_of_entries(call, first) if first.entries else _tensor_of_items(run, call, first)
    return _array(run, call) if first is None or isinstance(first, Const) else first


def _tensor_of_entries(call: Invocation, items: Items) -> Value:
    if call.name in name_tables.JOINS_ROWS and all(is_vague(entry.value) for entry in items.entries):
        return Pool(call.node)
    joined = _holds_rows(items) and call.name not in _COPIES and _all_rows(items)
    if joined or (_holds_rows(items) and any(entry.spread for entry in items.entries)):
        return Pool(call.node)
    return LoopTotal(call.node, tuple(items.entries), True)


def _tensor_of_items(run: Interpreter, call: Invocation, items: Items) -> Value:
    if any(isinstance(item, Pool) for item in items.items):
        return Pool(call.node)
    rows = [item for item in items.items if isinstance(item, BatchRows)]
    if rows:
        return BatchRows(call.node, output=any(item.output for item in rows))
    if all(isinstance(item, Const) for item in items.items):
        return Items(call.node, list(items.items), [], run.open_marks(), array=True, start=run.frame.statement)
    return items


def _all_rows(value: Items | LoopTotal) -> bool:
    return all(isinstance(entry.value, (BatchRows, Pool)) for entry in value.entries)


def _table(run: Interpreter, call: Invocation) -> Value | None:
    """``pd.DataFrame(rows)``."""
    data = call.first or call.keywords.get("data")
    return data if isinstance(data, (Items, Mapping, LoopTotal)) else None


def _deque(run: Interpreter, call: Invocation) -> Value | None:
    if isinstance(call.first, Items) and (call.first.items or call.first.entries):
        return None
    recent = "maxlen" in call.keywords or len(call.arguments) > 1
    return Items(call.node, created_in=run.open_marks(), start=run.frame.statement, recent=recent)


def _list(run: Interpreter, call: Invocation) -> Value | None:
    if isinstance(call.first, LoaderValue):
        return None if call.name == "set" else call.first
    return call.first or Items(call.node, created_in=run.open_marks(), start=run.frame.statement)


def _around_loader(run: Interpreter, call: Invocation) -> Value | None:
    """``enumerate(loader)``, ``tqdm(loader)``."""
    if isinstance(call.first, LoaderValue):
        return replace(call.first, counted=call.first.counted or call.name == "enumerate")
    return call.first if call.name in _BARS and isinstance(call.first, (Unknown, Library)) else None


def _dict(run: Interpreter, call: Invocation) -> Value:
    return Mapping(call.node, {}, run.open_marks())


def _default_dict(run: Interpreter, call: Invocation) -> Value:
    makes, template = "", None
    if call.name == "Counter":
        makes = "float"
    elif call.name == "defaultdict" and call.node.args:
        makes, template = _made_by(call.node.args[0])
    elif isinstance(call.first, Mapping):
        return call.first
    return Mapping(call.node, {}, run.open_marks(), makes, template)


def _made_by(factory: ast.expr) -> tuple[str, ast.expr | None]:
    """What a defaultdict makes, by its factory as written; a dict as the factory writes it."""
    text = ast.unparse(factory)
    if isinstance(factory, ast.Lambda) and isinstance(factory.body, ast.Dict):
        return "dict", factory.body
    if any(word in text.lower() for word in ("list", "[]", "deque")):
        return "list", None
    return "meter" if name_tables.reads_as_meter(text) else "float", None


def _zip(run: Interpreter, call: Invocation) -> Value:
    whole, node = call.first, call.node
    if len(node.args) == 1 and isinstance(node.args[0], ast.Starred):
        if isinstance(whole, Items) and whole.entries:
            return Items(node, [Items(node, [], [entry], whole.created_in) for entry in whole.entries])
        if isinstance(whole, LoopTotal) and whole.entries:
            return Items(node, [LoopTotal(node, (entry,), True) for entry in whole.entries])
    return next((a for a in call.arguments if isinstance(a, (BatchRows, Pool))), Unknown(node, "zip"))


def _operator(op: ast.operator, most: int = 2) -> _Reader:
    def read(run: Interpreter, call: Invocation) -> Value | None:
        given = len(call.arguments)
        return run.binary(call.node, op, *call.arguments[:2]) if 2 <= given <= most else None

    return read


def _matrix_product(run: Interpreter, call: Invocation) -> Value | None:
    if len(call.arguments) != 2 or not all(value.is_of_batch() for value in call.arguments):
        return None
    return BatchRows(call.node, pairs=is_transposed(call.node.args[1]), output=True)


def _einsum(run: Interpreter, call: Invocation) -> Value | None:
    if not isinstance(call.first, Const) or not isinstance(call.first.value, str):
        return None
    arguments = call.arguments[1:]
    inputs, _, output = call.first.value.replace(" ", "").partition("->")
    rows = [side[:1] for side in inputs.split(",")]
    if (
        len(rows) == 2
        and list(output) == rows
        and rows[0] != rows[1]
        and all(isinstance(a, BatchRows) for a in arguments)
    ):
        return BatchRows(call.node, pairs=True, output=True)
    return BatchRows(call.node, output=True) if any(isinstance(a, BatchRows) for a in arguments) else Unknown(call.node)


def _pairs(run: Interpreter, call: Invocation) -> Value | None:
    return BatchRows(call.node, pairs=True) if any(isinstance(a, BatchRows) for a in call.arguments) else None


def _range(run: Interpreter, call: Invocation) -> Value | None:
    if not call.arguments:
        return None
    last = call.arguments[-1] if len(call.arguments) < 3 else call.arguments[1]
    if isinstance(last, Count) and last.of is CountedThing.SAMPLES:
        return BatchRows(call.node, order=True)
    return Fixed(call.node) if call.name == "arange" else None


def _comparison(run: Interpreter, call: Invocation) -> Value | None:
    return BatchRows(call.node, mask=True) if any(isinstance(a, BatchRows) for a in call.arguments) else None


def _row_by_row(run: Interpreter, call: Invocation) -> Value | None:
    return BatchRows(call.node, output=call.first.output) if isinstance(call.first, BatchRows) else None


def _where(run: Interpreter, call: Invocation) -> Value | None:
    branches = [a for a in call.arguments[1:] if isinstance(a, (BatchRows, Stat))]
    rescaled = next((a for a in branches if isinstance(a, BatchRows) and a.rescaled), None)
    return rescaled or next(iter(branches), call.first)


def _clamped(run: Interpreter, call: Invocation) -> Value | None:
    return call.first.derived(call.node) if isinstance(call.first, Stat) else call.first


_BARS = name_set("tqdm trange track")
#: By what is called, with what it returns; of a name that stands twice the first counts.
_TABLE: tuple[tuple[str, _Reader], ...] = (
    ("len", _length),
    (PREPARES, _prepared),
    ("split array_split batched chunked chunks", _parts),
    ("map filter", _mapped),
    ("reduce", _folded),
    (" ".join(REDUCTIONS), _reduction),
    (" ".join(name_tables.NONLINEAR_STEPS), _nonlinear),
    # What is gone through one by one, a file or a line at a time.
    ("listdir glob iglob rglob scandir readlines walk iterdir", _made(Dataset)),
    ("zeros empty ones full zeros_like empty_like ones_like new_zeros", _array),
    (" ".join(_COPIES) + " stack cat concat concatenate hstack vstack", _tensor),
    (" ".join(name_tables.SAME), _handed_on),
    ("int float round abs bool str max min format ceil floor", _handed_on),
    ("DataFrame Series from_records", _table),
    ("deque", _deque),
    ("list tuple sorted reversed set iter", _list),
    ("enumerate tqdm trange track islice cycle", _around_loader),
    ("dict", _dict),
    ("defaultdict OrderedDict Counter", _default_dict),
    ("next", _made(BatchRows, whole=True)),
    ("zip", _zip),
    ("multiply mul", _operator(ast.Mult())),
    ("divide div true_divide", _operator(ast.Div(), most=9)),
    ("add sub subtract", _operator(ast.Sub())),
    ("matmul mm", _matrix_product),
    ("einsum", _einsum),
    ("cdist pdist pairwise_distances cos_sim sim_matrix similarity_matrix", _pairs),
    ("arange range", _range),
    ("eq ne gt lt ge le isclose equal greater less logical_and logical_or logical_not isin not_equal", _comparison),
    ("isnan isfinite isinf", _comparison),
    ("argmax argmin softmax sigmoid log_softmax topk sort argsort relu", _row_by_row),
    ("where", _where),
    ("clamp clip maximum minimum masked_fill nan_to_num", _clamped),
    ("autocast no_grad GradScaler", _made(Fixed)),
    ("DistributedSampler", _sampler),
    (" ".join(_FIXED), _made(Fixed)),
)
_READERS = {name: reader for names, reader in reversed(_TABLE) for name in names.split()}
