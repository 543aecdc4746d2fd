"""What calls of torch, numpy, scikit-learn and the builtins return."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.sites import doubts, knowledge, numbers
from batchproof.sites.parts import length_of
from batchproof.sites.reading import Reading
from batchproof.sites.site import Loader, Quantity
from batchproof.sites.values import (
    Averaged,
    Const,
    Count,
    Dataset,
    Fixed,
    Items,
    LoaderValue,
    LossFunction,
    Mapping,
    Meter,
    MetricObject,
    Model,
    Of,
    Pool,
    Position,
    Rows,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)

Arguments = list[Value]
Keywords = dict[str, Value]

_ZEROS = frozenset("zeros empty ones full zeros_like empty_like ones_like new_zeros".split())
_FIXED = frozenset(
    "time perf_counter process_time monotonic now timer default_timer get_lr get_last_lr rand random randint uniform "
    "clip_grad_norm_ clip_grad_norm manual_seed seed cpu_count current_device memory_allocated max_memory_allocated strftime "
    "open load Path join exists makedirs print device".split()
)
_COMPARES = frozenset("eq ne gt lt ge le isclose equal greater less logical_and logical_or logical_not isin not_equal".split())
#: Reductions of scikit-learn that see labels and predictions.
_MODEL = frozenset("model net network".split())
_ROUND = frozenset("int float round abs bool str max min format ceil floor".split())


def last_of(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def dimension_of(arguments: Arguments, keywords: Keywords, at: int) -> object:
    """The dimension that is reduced: None for all, a number, a list of numbers, or ... where it is not known."""
    value = keywords.get("dim") or keywords.get("axis")
    if value is None and len(arguments) > at:
        value = arguments[at]
        if len(arguments) > at + 1 and all(isinstance(a, Const) and isinstance(a.value, int) for a in arguments[at:]):
            return [a.value for a in arguments[at:] if isinstance(a, Const)]
    if value is None:
        return None
    if isinstance(value, Const):
        return value.value
    if isinstance(value, Items) and value.items and all(isinstance(i, Const) for i in value.items):
        return [i.value for i in value.items if isinstance(i, Const)]
    return ...


def keeps_rows(dimension: object) -> bool:
    """Whether there is still a row for each sample after a reduction over that dimension."""
    if dimension is ...:
        return True
    if isinstance(dimension, list):
        return 0 not in dimension
    return isinstance(dimension, int) and not isinstance(dimension, bool) and dimension != 0


def reduce(run: Reading, node: ast.expr, name: str, value: Value, dimension: object) -> Value | None:
    """A reduction by its name; None where it is none."""
    if name not in _REDUCTIONS:
        return None
    if isinstance(value, (Rows, Unknown)) and keeps_rows(dimension):
        if isinstance(value, Unknown) and not value.of_batch:
            return Unknown(node, value.name, parameter=value.parameter)
        same = isinstance(value, Rows)
        return Rows(
            node,
            selected=isinstance(value, Rows) and value.selected,
            pairs=isinstance(value, Rows) and value.pairs,
            mask=same and isinstance(value, Rows) and value.mask and name in {"all", "any"},
            output=isinstance(value, Rows) and value.output,
        )
    if isinstance(value, Items) and name in {"mean", "nanmean", "average"} and not value.entries and not value.of_samples:
        return numbers.mean_of_items(run, node, value)
    if name in {"mean", "average", "fmean"}:
        return numbers.mean_of(run, node, value)
    if name == "nanmean":
        if isinstance(value, Rows) or (isinstance(value, Unknown) and value.of_batch):
            return numbers.stat(run, node, Quantity.RATIO, "how many values are left out differs from batch to batch")
        return numbers.mean_of(run, node, value)
    if name in {"sum", "nansum", "count_nonzero", "fsum"}:
        if name == "count_nonzero" and isinstance(value, Rows):
            return numbers.stat(run, node, Quantity.COUNT)
        listed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and isinstance(value, Rows)
        if listed and not value.mask and "loss" in ast.unparse(node):  # a list of losses that a model returns
            return numbers.stat(run, node, Quantity.UNKNOWN)
        return numbers.sum_of(run, node, value)
    if isinstance(value, Stat):
        return numbers.derived(value, node)
    if isinstance(value, (Total, Averaged)):
        return Fixed(node)
    if isinstance(value, Items):
        if value.entries:
            return Fixed(node)
        return numbers.mean_of_items(run, node, value)
    if isinstance(value, Rows):
        if value.pairs:
            return numbers.stat(run, node, Quantity.COUPLED, "each sample is compared with the others of its batch")
        return numbers.stat(run, node, Quantity.NONLINEAR, f"the {_REDUCTIONS[name]} of a batch is no mean")
    return Unknown(node, "", is_of_batch(value))


_REDUCTIONS = {
    "mean": "mean", "average": "mean", "fmean": "mean", "nanmean": "mean", "sum": "sum", "nansum": "sum", "fsum": "sum",
    "count_nonzero": "count", "max": "largest value", "min": "smallest value", "amax": "largest value",
    "amin": "smallest value", "std": "standard deviation", "var": "variance", "median": "median", "norm": "norm",
    "prod": "product", "logsumexp": "logarithm of a sum", "quantile": "quantile", "percentile": "quantile",
    "all": "agreement", "any": "agreement", "dist": "norm",
}  # fmt: skip


def loss_function(run: Reading, node: ast.AST, name: str, arguments: Arguments, keywords: Keywords) -> LossFunction:
    """One of torch's losses with what it was given: its reduction, its weights."""
    reduction = keywords.get("reduction")
    text = reduction.value if isinstance(reduction, Const) else None
    average = keywords.get("size_average")
    quantity, why, rows = Quantity.MEAN, "", False
    reduces = keywords.get("reduce")
    if text == "none" or (isinstance(reduces, Const) and reduces.value is False):
        rows = True
    elif text == "sum" or (isinstance(average, Const) and average.value is False):
        quantity, why = Quantity.SUM, "it sums over the batch"
    elif knowledge.takes_weights(name):
        weight = keywords.get("weight")
        if weight is None and arguments and name[:1].isupper():
            weight = arguments[0]
        if weight is not None and not (isinstance(weight, Const) and weight.value is None):
            quantity, why = Quantity.RATIO, "it divides by the sum of the class weights of the batch's targets"
        elif "ignore_index" in keywords:
            quantity, why = Quantity.RATIO, "it divides by how many targets of the batch are not ignored"
    return LossFunction(node, name, quantity, why, rows)


def apply_loss(run: Reading, node: ast.expr, loss: LossFunction, arguments: Arguments, keywords: Keywords) -> Value:
    given = [*arguments, *keywords.values()]
    if any(isinstance(v, (Pool, Total)) for v in given):
        return Pool(node)
    if loss.rows:
        return Rows(node, pairs=any(isinstance(v, Rows) and v.pairs for v in given))
    if any(isinstance(v, Rows) and v.pairs for v in given):
        if loss.quantity is not Quantity.SUM:
            return numbers.stat(run, node, Quantity.COUPLED, "each sample is compared with the others of its batch")
    if len(given) > 1 and isinstance(given[1], Rows) and given[1].order:
        return numbers.stat(run, node, Quantity.COUPLED, "each sample is compared with the others of its batch")
    if loss.quantity is Quantity.MEAN and any(isinstance(v, Rows) and v.selected for v in given):
        return numbers.stat(run, node, Quantity.RATIO, "how many samples the mask leaves differs from batch to batch")
    if len(given) > 1 and isinstance(given[0], Rows) and isinstance(given[1], Rows):
        columns = (given[0].columns, given[1].columns)
        if set(columns) == {0, 1} and knowledge.plain(loss.name).startswith(("mse", "l1", "smooth", "huber")):
            run.doubt("broadcast shapes", node, "one side has a column for each sample and the other has none")
    return numbers.stat(run, node, loss.quantity, loss.why)


def metric_object(path: str, node: ast.AST) -> MetricObject | None:
    """A metric of a library that accumulates by itself."""
    if not any(word in path for word in ("torchmetrics", "torcheval", "ignite.metrics", "evaluate.", "monai.metrics", "datasets.load_metric")):
        return None
    name = last_of(path)
    if name in {"load", "load_metric", "combine", "MetricCollection", "Metric", "CompositionalMetric"}:
        return MetricObject(node, name, Quantity.UNKNOWN)
    if not name[:1].isupper():
        return None
    known = knowledge.by_name(name)
    quantity, why = known if known is not None else (Quantity.UNKNOWN, "")
    return MetricObject(node, name, quantity, why)


def call_library(
    run: Reading, node: ast.Call, path: str, arguments: Arguments, keywords: Keywords
) -> Value:
    """The value of a call by a dotted path."""
    name = last_of(path)
    given = [*arguments, *keywords.values()]
    if name.endswith("DataLoader") or name in {"DataListLoader", "NeighborLoader"}:
        return loader_of(run, node, arguments, keywords)
    metric = metric_object(path, node)
    if metric is not None and not (name in {"load"} and not path.startswith("evaluate")):
        return metric
    if path.startswith(("torch.optim", "optim.")):
        return Fixed(node)
    if name == "DistributedSampler":
        drops = keywords.get("drop_last")
        doubts.sampler(run, node, isinstance(drops, Const) and bool(drops.value))
        return Fixed(node)
    if name not in _SEES_A_LIST and any(
        isinstance(v, Pool) or (isinstance(v, (Total, Items)) and _holds_rows(v)) for v in given
    ):
        return Pool(node)
    if knowledge.is_torch_loss(name):
        loss = loss_function(run, node, name, arguments if name[:1].isupper() else [], keywords)
        if name[:1].isupper() and not any(isinstance(v, Rows) for v in arguments[:2]):
            return loss
        return apply_loss(run, node, loss, arguments[:2], {})
    found = _known(run, node, name, arguments, keywords)
    if found is not None:
        return found
    of_batch = any(is_of_batch(v) for v in given)
    if not of_batch:
        return _not_of_batch(node, name, path)
    return by_name(run, node, name, given)


def by_name(run: Reading, node: ast.expr, name: str, given: list[Value]) -> Value:
    """What a function of a batch returns that is known by its name only."""
    known = knowledge.by_name(name)
    if known is not None:
        quantity, why = known
        if any(isinstance(v, Rows) and v.pairs for v in given) and quantity is Quantity.MEAN:
            quantity, why = Quantity.COUPLED, "each sample is compared with the others of its batch"
        found = numbers.stat(run, node, quantity, why)
        found.named = True
        return found
    if any(isinstance(v, Stat) for v in given) and not any(isinstance(v, Rows) for v in given):
        first = next(v for v in given if isinstance(v, Stat))
        return numbers.derived(first, node)
    if knowledge.reads_as_loss(name) and not knowledge.reads_as_no_result(name):
        return numbers.stat(run, node, Quantity.UNKNOWN)
    if any(isinstance(v, Rows) for v in given):
        return Rows(node, output=True, pairs=any(isinstance(v, Rows) and v.pairs for v in given))
    return Unknown(node, name, True)


#: Functions that take a list as a list of numbers, whatever it holds.
_SEES_A_LIST = frozenset("len sum mean average fmean list tuple array asarray tensor enumerate zip".split())


def _holds_rows(value: Total | Items) -> bool:
    return any(isinstance(entry.value, (Rows, Pool)) for entry in value.entries)


def _not_of_batch(node: ast.expr, name: str, path: str) -> Value:
    if name in _FIXED or path.startswith(("time.", "os.", "random.", "logging.", "datetime.")):
        return Fixed(node)
    if knowledge.reads_as_meter(name):
        return Meter(node, name)
    if name[:1].isupper():
        words = knowledge.plain(name)
        if knowledge.reads_as_loader(name):
            return LoaderValue(node, Loader(node))
        known = knowledge.by_name(name)
        if known is not None and (words.endswith("loss") or "criterion" in words or known[0] is Quantity.COUPLED):
            return LossFunction(node, name, *known)
        if "dataset" in words:
            return Dataset(node)
        return Unknown(node, name)
    if knowledge.reads_as_loader(name) and ("get" in name or "build" in name or "make" in name or "create" in name):
        return LoaderValue(node, Loader(node)) if not name.endswith("s") else Unknown(node, name)
    if name == "batch_all":
        return Fixed(node)
    return Unknown(node, name)


def _known(run: Reading, node: ast.Call, name: str, arguments: Arguments, keywords: Keywords) -> Value | None:
    first = arguments[0] if arguments else None
    if name == "len" and first is not None:
        return length_of(run, first, node, node.args[0] if node.args else None)
    if name == "reduce" and len(arguments) > 1 and isinstance(arguments[1], (Items, Total)):
        return numbers.sum_of(run, node, arguments[1])
    if first is not None and name in _REDUCTIONS:
        builtin = isinstance(node.func, ast.Name)
        if name in {"max", "min"} and (builtin or len(arguments) > 1):
            return _largest(run, node, arguments, keywords, builtin)
        weights = keywords.get("weights")
        if name == "average" and weights is not None and isinstance(first, (Total, Items)):
            first = Total(first.node, numbers.entries_of(first), True, weights)
        if name == "norm" and isinstance(first, Rows) and "dim" not in keywords and "axis" not in keywords:
            return reduce(run, node, name, first, None)
        return reduce(run, node, name, first, dimension_of(arguments, keywords, 1))
    step = knowledge.nonlinear_step(name)
    if step is not None and first is not None:
        if name == "pow" and len(arguments) > 1 and isinstance(arguments[1], Const) and arguments[1].value == 1:
            return first
        return numbers.nonlinear(run, node, first, step)
    if name in _ZEROS:
        return Items(node, born=run.born(), array=True, start=run.frame.statement)
    if name in {"tensor", "array", "as_tensor", "asarray", "FloatTensor", "Tensor", "stack", "cat", "concat", "concatenate", "hstack", "vstack"}:
        return _joined(run, node, name, first)
    if name in knowledge.SAME and first is not None:
        return first
    if name in _ROUND and first is not None:
        return first
    if name in {"list", "tuple", "sorted", "reversed", "set"}:
        return first if first is not None else Items(node, born=run.born(), start=run.frame.statement)
    if name in {"enumerate", "tqdm", "trange", "track", "iter", "islice", "cycle"} and isinstance(first, LoaderValue):
        return replace(first, counted=first.counted or name == "enumerate")
    if name == "dict":
        return Mapping(node, {}, run.born())
    if name in {"defaultdict", "OrderedDict", "Counter"}:
        return _mapping(run, node, name, arguments)
    if name == "next":
        return Rows(node, whole=True)
    if name == "zip":
        return _zipped(run, node, arguments)
    if name == "multiply" and len(arguments) == 2:
        return numbers.binary(run, node, ast.Mult(), arguments[0], arguments[1])
    if name in {"divide", "div", "true_divide"} and len(arguments) >= 2:
        return numbers.binary(run, node, ast.Div(), arguments[0], arguments[1])
    if name in {"mul"} and len(arguments) == 2:
        return numbers.binary(run, node, ast.Mult(), arguments[0], arguments[1])
    if name in {"add", "sub", "subtract"} and len(arguments) == 2:
        return numbers.binary(run, node, ast.Sub(), arguments[0], arguments[1])
    if name in {"matmul", "mm"} and len(arguments) == 2 and all(isinstance(a, Rows) for a in arguments):
        return Rows(node, pairs=numbers.is_transposed(node.args[1]), output=True)
    if name == "einsum" and isinstance(first, Const) and isinstance(first.value, str):
        return _einsum(node, first.value, arguments[1:])
    if name in {"cdist", "pdist", "pairwise_distances", "cos_sim", "sim_matrix", "similarity_matrix"} and any(isinstance(a, Rows) for a in arguments):
        return Rows(node, pairs=True)
    if name == "arange" and first is not None:
        last = arguments[-1] if len(arguments) < 3 else arguments[1]
        if isinstance(last, Count) and last.of is Of.SAMPLES:
            return Rows(node, order=True)
        return Fixed(node)
    if name in _COMPARES and any(isinstance(a, Rows) for a in arguments):
        return Rows(node, mask=True)
    if name in {"argmax", "argmin", "softmax", "sigmoid", "log_softmax", "topk", "sort", "argsort", "relu"} and isinstance(first, Rows):
        return Rows(node, output=first.output)
    if name == "where" and arguments:
        return next((a for a in arguments[1:] if isinstance(a, (Rows, Stat))), arguments[0])
    if name in {"clamp", "clip", "maximum", "minimum", "masked_fill", "nan_to_num"} and first is not None:
        return numbers.derived(first, node) if isinstance(first, Stat) else first
    if name == "autocast" or name in {"no_grad", "GradScaler"}:
        return Fixed(node)
    if name in _FIXED:
        return Fixed(node)
    return None


def _largest(run: Reading, node: ast.Call, arguments: Arguments, keywords: Keywords, builtin: bool) -> Value:
    first = arguments[0]
    if not builtin:
        if isinstance(first, Rows):
            dimension = dimension_of(arguments, keywords, 1)
            if keeps_rows(dimension) or len(arguments) > 1:
                return Rows(node, output=first.output)
        return first
    for value in arguments:
        if isinstance(value, (Stat, Total, Averaged, Count, Position)):
            return value
    if len(arguments) == 1 and isinstance(first, Items):
        return Fixed(node)
    return next((a for a in arguments if is_of_batch(a)), Fixed(node))


def _joined(run: Reading, node: ast.Call, name: str, first: Value | None) -> Value:
    if first is None:
        return Items(node, born=run.born(), array=True, start=run.frame.statement)
    if isinstance(first, Const):
        return Items(node, born=run.born(), array=True, start=run.frame.statement)
    if isinstance(first, Items):
        if first.entries:
            if _holds_rows(first) and any(entry.spread for entry in first.entries):
                return Pool(node)
            if _holds_rows(first) and name not in {"tensor", "array", "as_tensor", "asarray", "FloatTensor", "Tensor"}:
                return Total(node, tuple(first.entries), True) if not _all_rows(first) else Pool(node)
            return Total(node, tuple(first.entries), True)
        if any(isinstance(item, Pool) for item in first.items):
            return Pool(node)
        if any(isinstance(item, Rows) for item in first.items):
            return Rows(node, output=any(isinstance(i, Rows) and i.output for i in first.items))
        if not first.items:
            return Items(node, born=run.born(), array=True, start=run.frame.statement)
        if all(isinstance(item, Const) for item in first.items):
            return Items(node, list(first.items), [], run.born(), array=True, start=run.frame.statement)
        return first
    if isinstance(first, Total) and _all_rows(first):
        return Pool(node)
    return first


def _all_rows(value: Items | Total) -> bool:
    return all(isinstance(entry.value, (Rows, Pool)) for entry in value.entries)


def _mapping(run: Reading, node: ast.Call, name: str, arguments: Arguments) -> Value:
    makes, template = "", None
    if name == "Counter":
        makes = "float"
    elif name == "defaultdict" and node.args:
        text = ast.unparse(node.args[0])
        words = text.lower()
        factory = node.args[0]
        if isinstance(factory, ast.Lambda) and isinstance(factory.body, ast.Dict):
            makes, template = "dict", factory.body
        elif "list" in words or "[]" in words or "deque" in words:
            makes = "list"
        elif knowledge.reads_as_meter(text):
            makes = "meter"
        else:
            makes = "float"
    elif arguments and isinstance(arguments[0], Mapping):
        return arguments[0]
    return Mapping(node, {}, run.born(), makes, template)


def _zipped(run: Reading, node: ast.Call, arguments: Arguments) -> Value:
    if len(node.args) == 1 and isinstance(node.args[0], ast.Starred):
        whole = arguments[0]
        if isinstance(whole, Items) and whole.entries:
            parts: list[Value] = [Items(node, [], [entry], whole.born) for entry in whole.entries]
            return Items(node, parts)
        if isinstance(whole, Total) and whole.entries:
            return Items(node, [Total(node, (entry,), True) for entry in whole.entries])
    if any(isinstance(a, (Rows, Pool)) for a in arguments):
        return next(a for a in arguments if isinstance(a, (Rows, Pool)))
    return Unknown(node, "zip", False)


def _einsum(node: ast.expr, text: str, arguments: Arguments) -> Value:
    inputs, _, output = text.replace(" ", "").partition("->")
    sides = inputs.split(",")
    if len(sides) == 2 and all(isinstance(a, Rows) for a in arguments) and len(output) == 2:
        if output[0] == sides[0][:1] and output[1] == sides[1][:1] and sides[0][:1] != sides[1][:1]:
            return Rows(node, pairs=True, output=True)
    return Rows(node, output=True) if any(isinstance(a, Rows) for a in arguments) else Unknown(node)


def loader_of(run: Reading, node: ast.Call, arguments: Arguments, keywords: Keywords) -> LoaderValue:
    """``DataLoader(...)`` with what it says about its last batch."""
    drop = keywords.get("drop_last")
    batch = keywords.get("batch_size") or (arguments[1] if len(arguments) > 1 else None)
    size: int | None = None
    spread = any(k.arg is None for k in node.keywords) or any(isinstance(a, ast.Starred) for a in node.args)
    if isinstance(batch, Const) and isinstance(batch.value, int):
        size = batch.value
    elif isinstance(batch, Count):
        size = batch.number
    elif batch is None and not spread and "batch_sampler" not in keywords:
        size = 1
    drops: bool | None = False
    if isinstance(drop, Const):
        drops = bool(drop.value)
    elif drop is not None or spread or "batch_sampler" in keywords:
        drops = None
    dataset = keywords.get("dataset") or (arguments[0] if arguments else None)
    loader = Loader(None, node, drops, size)
    return LoaderValue(node, loader, Dataset(node) if dataset is not None else None, keywords.get("sampler"))


__all__ = ["Model", "apply_loss", "by_name", "call_library", "loss_function", "metric_object", "reduce"]
