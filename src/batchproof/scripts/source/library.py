"""What calls of torch, numpy, scikit-learn and the builtins return."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.scripts.source import means, name_tables, numbers, stats, suspicions, totals
from batchproof.scripts.source.interpreter import Reading
from batchproof.scripts.source.means import _REDUCTIONS, dimension_of, keeps_rows, reduce
from batchproof.scripts.source.objects import apply_loss, loader_of, loss_function, metric_object
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.subscripts import length_of
from batchproof.scripts.source.values import (
    Arguments,
    Averaged,
    Const,
    Count,
    Dataset,
    Fixed,
    Items,
    Keywords,
    Library,
    LoaderValue,
    LossFunction,
    Mapping,
    Meter,
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

_ZEROS = frozenset("zeros empty ones full zeros_like empty_like ones_like new_zeros".split())
_FIXED = frozenset(
    """
    time perf_counter process_time monotonic now timer default_timer get_lr get_last_lr rand random randint uniform
    clip_grad_norm_ clip_grad_norm manual_seed seed cpu_count current_device memory_allocated max_memory_allocated
    strftime open load Path join exists makedirs print device
    """.split()
)
_HAND_ON_BATCHES = frozenset("enumerate tqdm trange track iter islice cycle list tuple sorted reversed".split())
#: What is gone through one by one, a file or a line at a time.
_FILES = frozenset("listdir glob iglob rglob scandir readlines walk iterdir".split())
_COMPARES = frozenset(
    """
    eq ne gt lt ge le isclose equal greater less logical_and logical_or logical_not isin not_equal isnan isfinite isinf
    """.split()
)
_ROUND = frozenset("int float round abs bool str max min format ceil floor".split())
_TENSORS = frozenset(
    """
    tensor array as_tensor asarray FloatTensor Tensor stack cat concat concatenate hstack vstack
    """.split()
)
_ROW_BY_ROW = frozenset("argmax argmin softmax sigmoid log_softmax topk sort argsort relu".split())


def call_library(run: Reading, node: ast.Call, path: str, arguments: Arguments, keywords: Keywords) -> Value:
    """The value of a call by a dotted path."""
    name = name_tables.last_of(path)
    given = [*arguments, *keywords.values()]
    if name.endswith("DataLoader") or name in {"DataListLoader", "NeighborLoader"}:
        made = loader_of(run, node, arguments, keywords)
        foreign = "." in path and not path.startswith(("torch", "pytorch", "data.", "utils."))
        if foreign and made.loader.batch_size == 1 and "batch_size" not in keywords and len(arguments) < 2:
            return replace(made, loader=replace(made.loader, batch_size=None))  # torch's own makes batches of one
        return made
    metric = metric_object(path, node)
    if metric is not None and not (name in {"load"} and not path.startswith("evaluate")):
        return metric
    if path.startswith(("torch.optim", "optim.")):
        return Fixed(node)
    if name == "DistributedSampler":
        drops = keywords.get("drop_last")
        suspicions.sampler(run, node, isinstance(drops, Const) and bool(drops.value))
        return Fixed(node)
    if name not in _SEES_A_LIST and any(
        isinstance(v, Pool) or (isinstance(v, (Total, Items)) and _holds_rows(v)) for v in given
    ):
        return Pool(node)
    if name_tables.is_torch_loss(name):
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
    if _leaves_targets_out(run, node):
        return stats.stat(run, node, Quantity.RATIO, "it divides by how many targets of the batch are not ignored")
    known = name_tables.by_name(name)
    if known is not None:
        quantity, why = known
        if any(isinstance(v, Rows) and v.pairs for v in given) and quantity is Quantity.MEAN:
            quantity, why = Quantity.COUPLED, "each sample is compared with the others of its batch"
        found = stats.stat(run, node, quantity, why)
        found.named = True
        return found
    if any(isinstance(v, Stat) for v in given) and not any(isinstance(v, Rows) for v in given):
        first = next(v for v in given if isinstance(v, Stat))
        return stats.derived(first, node)
    if name_tables.reads_as_loss(name) and not name_tables.reads_as_no_result(name):
        return stats.stat(run, node, Quantity.UNKNOWN)
    if any(isinstance(v, Rows) for v in given):
        return Rows(node, output=True, pairs=any(isinstance(v, Rows) and v.pairs for v in given))
    return Unknown(node, name, True)


def _leaves_targets_out(run: Reading, node: ast.expr) -> bool:
    """Whether a loss is given an ``ignore_index``, or is known to have one: ``criterion.ignore_index`` is read."""
    if not isinstance(node, ast.Call):
        return False
    callee = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return any(k.arg == "ignore_index" for k in node.keywords) or "ignore_index" in run.index.read_off.get(callee, ())


#: Functions that take a list as a list of numbers, whatever it holds.
_SEES_A_LIST = frozenset(
    """
    len sum mean average fmean list tuple array asarray tensor enumerate zip
    """.split()
)


def _holds_rows(value: Total | Items) -> bool:
    return any(isinstance(entry.value, (Rows, Pool)) for entry in value.entries)


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
    if name == "batch_all":
        return Fixed(node)
    return Unknown(node, name)


def _known(run: Reading, node: ast.Call, name: str, arguments: Arguments, keywords: Keywords) -> Value | None:
    first = arguments[0] if arguments else None
    if name == "len" and first is not None:
        return length_of(run, first, node, node.args[0] if node.args else None)
    if name == "reduce" and len(arguments) > 1 and isinstance(arguments[1], (Items, Total)):
        return means.sum_of(run, node, arguments[1])
    if first is not None and name in _REDUCTIONS:
        builtin = isinstance(node.func, ast.Name)
        if name in {"max", "min"} and (builtin or len(arguments) > 1):
            return _largest(run, node, arguments, keywords, builtin)
        weights = keywords.get("weights")
        if name == "average" and weights is not None and isinstance(first, (Total, Items)):
            first = Total(first.node, totals.entries_of(first), True, weights)
        if name == "norm" and isinstance(first, Rows) and "dim" not in keywords and "axis" not in keywords:
            return reduce(run, node, name, first, None)
        return reduce(run, node, name, first, dimension_of(arguments, keywords, 1))
    step = name_tables.nonlinear_step(name)
    if step is not None and first is not None:
        if name == "pow" and len(arguments) > 1 and isinstance(arguments[1], Const) and arguments[1].value == 1:
            return first
        return stats.nonlinear(run, node, first, step)
    if name in _FILES:
        return Dataset(node)
    if name in _ZEROS:
        return Items(node, born=run.born(), array=True, start=run.frame.statement)
    if name in _TENSORS:
        return _joined(run, node, name, first)
    if name in name_tables.SAME and first is not None:
        return first
    if name in _ROUND and first is not None:
        return first
    if name == "deque" and not (isinstance(first, Items) and (first.items or first.entries)):
        recent = "maxlen" in keywords or len(arguments) > 1
        return Items(node, born=run.born(), start=run.frame.statement, recent=recent)
    if name in {"list", "tuple", "sorted", "reversed", "set", "iter"} and not isinstance(first, LoaderValue):
        return first if first is not None else Items(node, born=run.born(), start=run.frame.statement)
    if name in {"tqdm", "trange", "track"} and isinstance(first, (Unknown, Library)):
        return first
    if name in _HAND_ON_BATCHES and isinstance(first, LoaderValue):
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
    if name in {"matmul", "mm"} and len(arguments) == 2 and all(is_of_batch(a) for a in arguments):
        return Rows(node, pairs=numbers.is_transposed(node.args[1]), output=True)
    if name == "einsum" and isinstance(first, Const) and isinstance(first.value, str):
        return _einsum(node, first.value, arguments[1:])
    if name in {"cdist", "pdist", "pairwise_distances", "cos_sim", "sim_matrix", "similarity_matrix"} and any(
        isinstance(a, Rows) for a in arguments
    ):
        return Rows(node, pairs=True)
    if name in {"arange", "range"} and first is not None:
        last = arguments[-1] if len(arguments) < 3 else arguments[1]
        if isinstance(last, Count) and last.of is Of.SAMPLES:
            return Rows(node, order=True)
        return Fixed(node) if name == "arange" else None
    if name in _COMPARES and any(isinstance(a, Rows) for a in arguments):
        return Rows(node, mask=True)
    if name in _ROW_BY_ROW and isinstance(first, Rows):
        return Rows(node, output=first.output)
    if name == "where" and arguments:
        found = [a for a in arguments[1:] if isinstance(a, (Rows, Stat))]
        rescaled = next((a for a in found if isinstance(a, Rows) and a.rescaled), None)
        return rescaled or next(iter(found), arguments[0])
    if name in {"clamp", "clip", "maximum", "minimum", "masked_fill", "nan_to_num"} and first is not None:
        return stats.derived(first, node) if isinstance(first, Stat) else first
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
        elif name_tables.reads_as_meter(text):
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
    if (
        len(sides) == 2
        and all(isinstance(a, Rows) for a in arguments)
        and len(output) == 2
        and output[0] == sides[0][:1]
        and output[1] == sides[1][:1]
        and sides[0][:1] != sides[1][:1]
    ):
        return Rows(node, pairs=True, output=True)
    return Rows(node, output=True) if any(isinstance(a, Rows) for a in arguments) else Unknown(node)
