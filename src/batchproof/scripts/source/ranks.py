"""What a script does with the numbers of its ranks: adds them up, collects them, averages them, divides a loss by them.

Each rank has a share of the samples. Sums over ranks are sums over all samples; a number that every rank computes of
its own share is not, and the mean of those numbers is that of all samples only where the number is a plain mean and the
shares are equally large.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables, suspicions
from batchproof.scripts.source.accumulators import as_stat
from batchproof.scripts.source.callables import Invocation
from batchproof.scripts.source.frames import BatchLoop
from batchproof.scripts.source.index import argument_of, callee_of, last_word
from batchproof.scripts.source.loops import is_range, unwrapped
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Divisor, Phase, Quantity, Topic
from batchproof.scripts.source.totals import Averaged, Items, LoopTotal, Mapping, Pool
from batchproof.scripts.source.values import (
    BatchRows,
    Const,
    Count,
    Fixed,
    LoaderValue,
    OverRanks,
    RankState,
    Share,
    Stat,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

_DISTRIBUTED = name_set("dist distributed hvd horovod comm torch_dist tdist c10d D")
#: Functions of a script's own utilities that average over the ranks, as most repositories have one.
_AVERAGES = name_set(
    """
    reduce_tensor reduce_mean all_reduce_mean reduce_value metric_average avg_reduce all_reduce_avg all_reduce_average
    average_across_ranks mean_across_ranks average_over_ranks scaled_all_reduce reduce_loss_dict
    average_losses_across_data_parallel_group average_gradients_across_ranks mean_reduce
    """
)
#: Whose ``reduce_mean`` is a mean over dimensions.
_OTHER_LIBRARIES = name_set("tf math K jnp np paddle mx F layers")
_COLLECTS = name_set("gather gather_for_metrics all_gather all_gather_object gather_object allgather gather_all")
_MEANS = name_set("mean nanmean average fmean")
_WRAPPERS = name_set("DistributedDataParallel DDP FullyShardedDataParallel FSDP fully_shard deepspeed Accelerator")
#: Samplers and loaders that give every rank the same number of samples.
_EVEN = name_set("DistributedSampler Accelerator DistributedLengthGroupedSampler DistributedEvalSampler")
_SUMS = (BatchRows, LoopTotal, Count, Const)
_SCALED = {RankState.DIVIDED, RankState.AVERAGED}
#: What hands on the numbers that it is given, or puts them beside each other.
_HANDED_ON = name_tables.SAME | name_tables.JOINS | {"float"}


def called(run: Interpreter, call: Invocation, result: Value, base: Value | None, is_own: bool) -> Value:
    """What a call returns, if it has to do with ranks: ``dist.all_reduce(loss)``, ``gathered.mean()``.

    Args:
        run: the file as it is read.
        call: the call.
        result: what it returns as far as a single rank is concerned.
        base: what the method is called on; None for a function.
        is_own: a function of this file was called, which has been read already.
    """
    name, whole = call.name, base if base is not None else call.first
    if name in {"backward", "manual_backward"}:
        _trained(run, call, base)
    elif not is_own and name in _COLLECTIVES:
        return _COLLECTIVES[name](run, call, result)
    elif name in {"div", "div_", "true_divide"} and whole is not None and len(call.node.args) == 1:
        if result.ranks in {None, whole.ranks} and call.first is not None:  # not of a number, which is divided already
            result = divided(run, call.node, ast.Div(), whole, call.first, result)
        if name == "div_" and isinstance(call.node.func, ast.Attribute):
            _rebind(run, call.node.func.value, result)
    elif whole is not None and name in _HANDED_ON and isinstance(whole, Pool) and isinstance(result, Pool):
        return replace(result, node=whole.node, ranks=whole.ranks)  # whose score it is, its node says
    elif whole is not None and whole.ranks is not None:
        return _followed(run, name, whole.ranks, result)
    return result


def _followed(run: Interpreter, name: str, before: OverRanks, result: Value) -> Value:
    """What a call returns that is given something that went over the ranks."""
    if before.state is RankState.LISTED and name == "sum":
        return _marked(result, replace(before, state=RankState.SUMMED))
    if before.state is RankState.LISTED and name in _MEANS:
        return _marked(result, _averaged(run, before))
    if result.ranks is None and (name in _HANDED_ON or (name in {"mean", "sum"} and isinstance(result, Stat))):
        return _marked(result, before)
    return result


def divided(run: Interpreter, node: ast.expr, op: ast.operator, left: Value, right: Value, result: Value) -> Value:
    """What ``loss / world_size`` returns, where ``result`` is what it is on one rank; a sum has what its terms have."""
    if isinstance(op, (ast.Add, ast.Sub)) and isinstance(result, Stat) and result.ranks is None:
        marks = [side.ranks for side in (left, right) if side.ranks is not None]
        return _marked(result, marks[0]) if marks and marks[0].state in _SCALED else result
    by = node.right if isinstance(node, ast.BinOp) else argument_of(node, 0) if isinstance(node, ast.Call) else None
    if not isinstance(op, (ast.Div, ast.FloorDiv)) or by is None or isinstance(left, _SUMS):
        return result
    if not _counts_ranks(run, by, right):
        return result
    if left.ranks is not None and left.ranks.state in {RankState.SUMMED, RankState.LISTED}:
        return _marked(result, _averaged(run, left.ranks))
    shares = _shares(left, node.left if isinstance(node, ast.BinOp) else None)
    return _marked(result, OverRanks(RankState.DIVIDED, shares, node)) if shares else result


def found(run: Interpreter) -> None:
    """Suspect what the ranks do with their numbers, now that all loops have been read."""
    _suspect_averages(run)
    _suspect_first_rank(run)
    _suspect_repeats(run)
    _suspect_samplers(run)


def _suspect_averages(run: Interpreter) -> None:
    even = bool(run.index.words & _EVEN)
    told: set[tuple[BatchLoop, ...]] = set()  # one note for all means of a loop
    for share, statement in run.over_ranks:
        plain = share.topic is Topic.RANK_MEANS
        in_training = any(loop.phase is Phase.TRAINING for loop in share.loops)
        if (share.of_batch and (in_training or not share.loops)) or (plain and in_training):
            continue  # a line of progress
        if plain:
            equal = any(loop.equal or loop.loader().drops_last for loop in share.loops)
            if equal or even or (share.of_batch and not _takes_every_nth(run.frames[0].function)):
                continue
            if share.loops in told:
                continue
            told.add(share.loops)
        run.suspect(share.topic, statement, share.why)


# ------------------------------------------------------------------ the first rank's number

_FIRST_RANK = re.compile(
    r"(rank|gpu|process_index|proc_id)\W*(\(\))?\s*(==|<=|in)\s*[\[(]*\s*(-1, )?0\b|"
    r"^(?!not ).*\b(is_)?(main|master)(_process|_rank|_node)?\b|rank_?zero|is_world_process_zero"
)
_EXCHANGES = re.compile(
    r"all_?reduce|all_?gather|gather_|_gather|^(reduce|gather)$|reduce_(tensor|mean|value|dict|loss|metric)|"
    r"synchroni[sz]e_|sync_dist|across|distributed_concat|^broadcast"
)


@contextmanager
def branch(run: Interpreter, test: ast.expr) -> Iterator[None]:
    """A branch that only the first rank takes, as ``if rank == 0:``, while it is read."""
    before = run.frame.first_rank
    run.frame.first_rank = before or bool(_FIRST_RANK.search(ast.unparse(test)))
    yield
    run.frame.first_rank = before


def reported(run: Interpreter, node: ast.expr) -> None:
    """``if rank == 0: print(total / n)``."""
    if not isinstance(node, ast.Call) or callee_of(node) not in suspicions.REPORTS:
        return
    statement = run.frame.statement
    if statement is None or not any(frame.first_rank for frame in run.frames):
        return
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        for part in ast.walk(argument):
            is_read = isinstance(part, (ast.Name, ast.Attribute)) or _is_quotient(part)
            value = run.evaluate(part) if is_read and isinstance(part, ast.expr) else None
            for entry in value.entries if isinstance(value, Averaged) and value.ranks is None else ():
                if not run.is_open(entry.loop) and _is_shared_out(
                    entry.loop.over[-1]
                ):  # the loader of the last reading
                    run.first_ranks.append((entry, statement, ast.unparse(part)))


def _is_quotient(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)


def _suspect_first_rank(run: Interpreter) -> None:
    if any(map(_EXCHANGES.search, run.index.words)):
        return
    told: set[BatchLoop] = set()
    for entry, statement, name in run.first_ranks:
        if entry.loop.phase is Phase.EVALUATION and entry.loop not in told:
            told.add(entry.loop)
            run.suspect(Topic.ONE_RANK, statement, f"{name} is the first rank's, of its own share of the samples")


def _is_shared_out(value: Value) -> bool:
    """Whether a loader's sampler gives each rank a share."""
    sampler = value.sampler if isinstance(value, LoaderValue) else None
    return sampler is not None and callee_of(sampler.node) == "DistributedSampler"


# ------------------------------------------------------------------ samplers

_EPOCH = re.compile(r"(^|_)epochs?($|_)|epochs?$|^(e|ep)$")
#: Trainers that tell their samplers the epoch.
_TELLS = name_set("Accelerator LightningModule LightningDataModule Trainer Fabric auto_dataloader EpochBasedRunner")


def _suspect_samplers(run: Interpreter) -> None:
    """A sampler that shuffles, in a file that trains for epochs and tells it none of them."""
    index, tree = run.index, run.frames[0].function
    told_by_others = (_TELLS & index.words) - index.classes.keys()
    if "DistributedSampler" not in index.words or "set_epoch" in index.words or told_by_others:
        return
    path = index.imports.get("DistributedSampler", "torch")
    if "DistributedSampler" in index.classes or not path.startswith("torch"):
        return
    if not any(isinstance(part, ast.For) and _trains_for_epochs(run, part) for part in ast.walk(tree)):
        return
    for statement in (part for part in ast.walk(tree) if isinstance(part, (ast.Assign, ast.Return))):
        for part in ast.walk(statement):
            if isinstance(part, ast.Call) and callee_of(part) == "DistributedSampler" and _shuffles(part, statement):
                run.suspect(Topic.SAME_ORDER, part, "nothing calls its set_epoch")


def _shuffles(node: ast.Call, statement: ast.Assign | ast.Return) -> bool:
    shuffle = argument_of(node, 3, "shuffle")
    if shuffle is not None and not (isinstance(shuffle, ast.Constant) and shuffle.value is True):
        return False
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return not any(suspicions.evaluates(last_word(part)) for part in (*targets, *node.args[:1]))


def _trains_for_epochs(run: Interpreter, loop: ast.For) -> bool:
    """``for epoch in range(epochs):`` around steps of an optimizer, also those of functions of the file."""
    words = {part.id if isinstance(part, ast.Name) else last_word(part) for part in ast.walk(loop.iter)}
    counts = is_range(unwrapped(loop.iter)[0]) and any(map(_EPOCH.search, words))
    if not counts and not (isinstance(loop.target, ast.Name) and _EPOCH.search(loop.target.id.lower())):
        return False
    if ast.unparse(loop.iter) == "range(1)":
        return False
    calls = {callee_of(part) for part in ast.walk(loop)}
    for _ in range(3):
        if "backward" in calls:
            return True
        functions = (function for name in calls for function in run.index.functions_by_name.get(name, ()))
        calls = set[str]().union(*(run.index.mentions[function].all_calls for function in functions))
    return "backward" in calls


# ------------------------------------------------------------------ collectives


def _receiver(call: Invocation) -> str:
    """``dist`` of ``torch.distributed.all_reduce``: the word before the function's."""
    return last_word(call.node.func.value) if isinstance(call.node.func, ast.Attribute) else ""


def _reduced(run: Interpreter, call: Invocation, result: Value) -> Value:
    """``dist.all_reduce(loss)``, which changes what it is given; ``hvd.allreduce(loss)``, which returns it."""
    if call.first is None or not call.node.args:
        return result
    receiver, how = _receiver(call), _operation(call)
    if call.name == "reduce" and receiver not in _DISTRIBUTED | {"accelerator"}:
        return result
    if receiver in {"nn", "functional", "F"} or how not in {"sum", "mean", ""}:
        return result  # one that gradients flow through; a maximum
    before, target = call.first.ranks, call.node.args[0]
    shares = _shares(call.first, target)
    if before is not None and before.state is RankState.DIVIDED:
        over = _averaged(run, before)
    elif how == "mean" or (how == "" and receiver in {"fabric", "hvd", "horovod"}):
        over = _averaged(run, OverRanks(RankState.SUMMED, shares, _place(run, call.first, call.node)))
    else:
        over = OverRanks(RankState.SUMMED, shares, _place(run, call.first, call.node))
    _rebind(run, target, _marked(call.first, over))
    return _marked(result, over)


def _operation(call: Invocation) -> str:
    """``"sum"``, ``"mean"`` or another as the call says it; "" where it does not."""
    for keyword in call.node.keywords:
        if keyword.arg == "average":
            return "sum" if ast.unparse(keyword.value) == "False" else "mean"
    named = [keyword.value for keyword in call.node.keywords if keyword.arg in {"op", "reduction", "reduce_op"}]
    for part in (*named, *call.node.args[1:]):
        last = ast.unparse(part).lower().strip("'\"").rpartition(".")[2]
        if last in _OPERATIONS:
            return _OPERATIONS[last]
    return ""


_OPERATIONS = {
    **dict.fromkeys(("avg", "mean", "average"), "mean"),
    "sum": "sum",
    **dict.fromkeys(("max", "min", "product", "prod", "band", "bor", "bxor"), "another"),
}


def _average_by_name(run: Interpreter, call: Invocation, result: Value) -> Value:
    if call.first is None or not call.node.args or _receiver(call) in _OTHER_LIBRARIES:
        return result
    shares = _shares(call.first, call.node.args[0])
    return _marked(result, _averaged(run, OverRanks(RankState.SUMMED, shares, _place(run, call.first, call.node))))


def _collected(run: Interpreter, call: Invocation, result: Value) -> Value:
    """``dist.all_gather(losses, loss)``, which fills a list; ``accelerator.gather(loss)``, which returns one."""
    if _receiver(call) in _DISTRIBUTED and len(call.node.args) > 1:
        place, one = (0, 1) if call.name.startswith("all_") else (1, 0)
        target, value = call.node.args[place], call.arguments[one]
        shares = _shares(value, call.node.args[one])
        if shares and isinstance(target, (ast.Name, ast.Attribute)):
            over = OverRanks(RankState.LISTED, shares, _place(run, value, call.node))
            run.hold(target, _marked(Items(target, [value], created_in=run.open_marks()), over))
        return result
    if call.first is None or len(call.node.args) != 1 or _repeats(call.node):
        return result
    _gathered(run, call, call.first)
    shares = _shares(call.first, call.node.args[0])
    return (
        _marked(result, OverRanks(RankState.LISTED, shares, _place(run, call.first, call.node))) if shares else result
    )


def _gathered(run: Interpreter, call: Invocation, value: Value) -> None:
    """``accelerator.gather(predictions)``: the loader has repeated samples, to give the ranks equally many."""
    loop = run.batch_loop()
    if loop is None or _receiver(call) != "accelerator":
        return
    is_number = isinstance(value, Stat)
    if (call.name == "gather" and value.is_of_batch() and not is_number) or (
        call.name == "gather_for_metrics" and isinstance(value, Stat) and _is_known(value)
    ):
        run.gathered.append((loop, call.node, is_number))


def _is_known(value: Stat) -> bool:
    """Whether the source shows that it is a number, and no row for each sample under a loss's name."""
    return value.quantity in {Quantity.MEAN, Quantity.RATIO, Quantity.NONLINEAR} and not value.named


def _suspect_repeats(run: Interpreter) -> None:
    told: set[BatchLoop] = set()
    for loop, node, is_number in run.gathered:
        if loop in told or loop.phase is not Phase.EVALUATION or loop.loader().drops_last:
            continue
        if is_number:
            why = "gather_for_metrics leaves repeated samples out of rows, and this is one number of each rank"
        elif _cuts(run.frames[0].function):
            continue
        else:
            why = "gather keeps the samples that were repeated"
        told.add(loop)
        run.suspect(Topic.REPEATS, node, why)


def _cuts(tree: ast.AST) -> bool:
    """Whether something is cut off at an end that is computed, as ``predictions[: len(dataset) - seen]``."""
    ends = (part.upper for part in ast.walk(tree) if isinstance(part, ast.Slice) and part.lower is None)
    return any(end is not None and not isinstance(end, (ast.Constant, ast.UnaryOp)) for end in ends)


def _repeats(node: ast.Call) -> bool:
    """``accelerator.gather(loss.repeat(batch_size))`` weighs the loss by its samples."""
    return any(callee_of(part) in {"repeat", "expand", "full", "ones"} for part in ast.walk(node.args[0]))


_COLLECTIVES = {
    **dict.fromkeys(("all_reduce", "allreduce", "all_reduce_", "reduce"), _reduced),
    **dict.fromkeys(_AVERAGES, _average_by_name),
    **dict.fromkeys(_COLLECTS, _collected),
}


def _marked(value: Value, over: OverRanks, depth: int = 2) -> Value:
    if isinstance(value, Items) and not value.entries and depth:
        value = replace(value, items=[_marked(item, over, depth - 1) for item in value.items])
    return value if isinstance(value, _SUMS) else replace(value, ranks=over)


def _averaged(run: Interpreter, over: OverRanks) -> OverRanks:
    """Note an average over the ranks."""
    if over.where is not None:
        run.over_ranks += [(share, over.where) for share in over.shares]
    return replace(over, state=RankState.AVERAGED)


def _place(run: Interpreter, value: Value, node: ast.AST) -> ast.AST:
    """The call at work: where a helper of the file does it, the statement that hands it the value."""
    frame = run.frame
    while frame.caller is not None and value.mark in frame.handed:
        frame = frame.caller
    return node if frame is run.frame else frame.statement or node


def _rebind(run: Interpreter, target: ast.expr, value: Value) -> None:
    """Bind a name anew to what a function has made of what it held, in its place."""
    while isinstance(target, ast.Attribute) and target.attr == "data":
        target = target.value
    held = run.held_by(target) if isinstance(target, (ast.Name, ast.Attribute)) else None
    if held is not None and value.ranks is not None:
        run.hold(target, value, held)


def _counts_ranks(run: Interpreter, node: ast.expr, value: Value) -> bool:
    """``world_size``, ``dist.get_world_size()``, and the length of a list that has one item of each rank."""
    if name_tables.reads_as_ranks(ast.unparse(node)):
        return True
    if isinstance(value, Unknown) and name_tables.reads_as_ranks(value.name):
        return True
    if callee_of(node) == "size" and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return last_word(node.func.value) in _DISTRIBUTED
    if callee_of(node) == "len" and isinstance(node, ast.Call) and len(node.args) == 1:
        over = run.evaluate(node.args[0]).ranks
        return over is not None and over.state is RankState.LISTED
    return False


# ------------------------------------------------------------------ what a rank's number is


#: Scores of a whole set that nobody takes sample by sample, as some take a Dice, a PSNR or a precision.
_OF_A_SET = re.compile(
    r"(^|_)(au_?roc|(roc_?|pr_?)?auc|(macro_?|micro_?)?f1(_?scores?)?|m_?iou|mean_?iou|m_?ap|average_?precision(_score)?|n?rmse|"
    r"pearsonr?|spearmanr?|kendall(tau)?|(cohen_?)?kappa(_score)?|mcc|matthews_corrcoef|r2(_?score)?|eer|fid)($|_)"
)


def _shares(value: Value, written: ast.expr | None, depth: int = 2) -> tuple[Share, ...]:
    """What a rank's numbers are of its own samples; sums and counts, which may be added over ranks, are left out."""
    if isinstance(value, (Items, Mapping)):
        parts = value.items if isinstance(value, Items) else value.values()
        return tuple(share for part in parts for share in _shares(part, written, depth - 1)) if depth else ()
    share = _share(value, written)
    return (share,) if share is not None else ()


def _share(value: Value, written: ast.expr | None) -> Share | None:
    if isinstance(value, Stat):
        loops = (value.loop,) if value.loop is not None else ()
        if any(loop.loader().batch_size == 1 for loop in loops):
            return None  # a number of one sample
        if value.quantity in {Quantity.NONLINEAR, Quantity.RATIO}:
            return Share(Topic.RANK_METRICS, value.why, loops, of_batch=True)
        plain = value.quantity in {Quantity.MEAN, Quantity.UNKNOWN}
        return Share(Topic.RANK_MEANS, "a rank's last batch may be shorter", loops, of_batch=True) if plain else None
    if value.ranks is not None and value.ranks.state is RankState.AVERAGED:
        return None
    if isinstance(value, Averaged):
        return _share_of_average(value)
    if not isinstance(value, (Pool, Fixed, Unknown)):
        return None
    if any(_OF_A_SET.search(name_tables.plain(name)) for name in _names(value, written)):
        return Share(Topic.RANK_METRICS, "the score of a whole set is not the mean of the scores of its parts")
    return None


def _share_of_average(value: Averaged) -> Share | None:
    """A total over a count. Where batches are averaged already, that is another rule's."""
    loops = tuple(entry.loop for entry in value.entries)
    averages = [average for entry in value.entries for average in entry.averages.values()]
    after = next((average.after for average in averages if average.after), "")
    if after:
        return Share(Topic.RANK_METRICS, f"{after} is taken of each rank's average", loops)
    stats = [stat for entry in value.entries if (stat := as_stat(entry)) is not None]
    if not stats or any(stat.quantity in {Quantity.NONLINEAR, Quantity.COUPLED, Quantity.RUNNING} for stat in stats):
        return None
    divisors = {average.divisor for average in averages}
    if not divisors or not divisors <= {Divisor.SAMPLES, Divisor.WEIGHTS}:
        return None
    texts = [ast.unparse(average.divisor_node) for average in averages if average.divisor_node is not None]
    if Divisor.WEIGHTS in divisors and any(map(name_tables.reads_as_tokens, texts)):
        return Share(Topic.RANK_METRICS, f"{texts[0]} differs from rank to rank", loops)
    return Share(Topic.RANK_MEANS, "a rank with fewer samples counts as much as the others", loops)


def _names(value: Value, written: ast.expr | None) -> Iterator[str]:
    """The words that a number goes by: as it is handed over, and of what computes it."""
    for node in (written, value.node):
        for part in ast.walk(node) if node is not None else ():
            name = callee_of(part) or last_word(part)
            if name and not name[:1].isupper():
                yield name


def _takes_every_nth(tree: ast.AST) -> bool:
    """``data[rank::world_size]``, ``range(rank, len(data), world_size)``: shares that differ by one sample."""
    for part in ast.walk(tree):
        bounds: list[ast.expr | None] = []
        if isinstance(part, ast.Slice):
            bounds = [part.lower, part.step]
        elif isinstance(part, ast.Call) and callee_of(part) in {"range", "arange", "islice"} and len(part.args) > 2:
            bounds = [part.args[-3], part.args[-1]]
        texts = [ast.unparse(bound).lower() if bound is not None else "" for bound in bounds]
        if texts and "rank" in texts[0] and name_tables.reads_as_ranks(texts[1]):
            return True
    return False


# ------------------------------------------------------------------ gradients


def _trained(run: Interpreter, call: Invocation, base: Value | None) -> None:
    """``loss.backward()`` of a loss that was divided by the number of ranks, where gradients are averaged over them."""
    loss = base if isinstance(base, Stat) else call.first
    over = loss.ranks if isinstance(loss, Stat) else None
    if not isinstance(loss, Stat) or over is None or over.state not in _SCALED:
        return
    if loss.quantity is Quantity.SUM or not run.index.words & _WRAPPERS or _adds_gradients(run.frames[0].function):
        return
    if over.state is RankState.DIVIDED:
        why = "the loss is divided by the number of ranks"
    else:
        why = "the loss is averaged over the ranks, which divides its gradient by their number"
    run.suspect(Topic.LOSS_OVER_RANKS, over.where or run.frame.statement or call.node, why)


def _adds_gradients(tree: ast.AST) -> bool:
    """``dist.all_reduce(parameter.grad)``: the script adds its gradients up itself."""
    return any(
        isinstance(part, ast.Call) and callee_of(part) in {"all_reduce", "allreduce"} and "grad" in ast.unparse(part)
        for part in ast.walk(tree)
    )
