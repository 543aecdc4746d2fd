"""What else is doubtful: a value of the last batch that is reported, loaders, divisions of a loss."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.index import argument_of, callee_of, last_word, names_in
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Quantity, Topic
from batchproof.scripts.source.totals import LoopTotal
from batchproof.scripts.source.values import Const, LoaderValue, Stat, Value

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

REPORTS = name_set(
    """
    print info log debug warning write add_scalar add_scalars append format log_metric writerow set_description
    set_postfix
    """
)
_NOT_PLAIN = {Quantity.RATIO, Quantity.NONLINEAR, Quantity.COUPLED}


def stale(run: Interpreter, node: ast.expr) -> None:
    """A number of one batch that is printed, kept or returned after its loop: that of the last batch."""
    if isinstance(node, ast.Call):
        name = callee_of(node)
        handed_on = isinstance(run.frame.statement, ast.Return) and (
            name in name_tables.SAME or name in {"float", "round"}
        )
        if name not in REPORTS and not handed_on:
            return
        parts: list[ast.expr] = [node] if handed_on else [*node.args, *(k.value for k in node.keywords)]
    else:
        parts = list(node.elts) if isinstance(node, ast.Tuple) else [node]
    for part in parts:
        own = {
            name for inner in ast.walk(part) if isinstance(inner, ast.comprehension) for name in names_in(inner.target)
        }
        for named in ast.walk(part):
            if (
                isinstance(named, ast.Name)
                and named.id not in own
                and _is_of_last_batch(run, named.id)
                and _is_first(run, named.id)
            ):
                why = f"{named.id} holds the value of the loop's last batch"
                run.suspect(Topic.ONLY_LAST_BATCH, run.frame.statement or node, why)
                return


def is_sum(value: Value) -> bool:
    """Whether it is a total, and no list."""
    return isinstance(value, LoopTotal) and not value.listed


def undivided(run: Interpreter, node: ast.expr) -> None:
    """A sum over the batches that is printed or logged after its loop as it stands."""
    if not isinstance(node, ast.Call) or callee_of(node) not in REPORTS - {"append"}:
        return
    for part in (*node.args, *(keyword.value for keyword in node.keywords)):
        for shown in _shown(part):
            binding = run.frame.scope.names.get(shown.id)
            for entry in binding.value.contributions if binding is not None and is_sum(binding.value) else ():
                if not run.is_open(entry.loop):
                    run.undivided.append((entry, shown.id))


def _shown(part: ast.expr) -> Iterator[ast.Name]:
    """The names whose value a text shows as it is: of an f-string, ``"...".format(...)``, ``"..." % (...)``."""
    if isinstance(part, ast.Name):
        yield part
    elif isinstance(part, ast.JoinedStr):
        for piece in part.values:
            yield from _shown(piece)
    elif isinstance(part, ast.FormattedValue):
        yield from _shown(part.value)
    elif isinstance(part, ast.Call) and (callee_of(part) in {"format", "item", "round", "float", "str"}):
        inner = [part.func.value] if isinstance(part.func, ast.Attribute) and callee_of(part) == "item" else []
        for piece in (*inner, *part.args, *(keyword.value for keyword in part.keywords)):
            yield from _shown(piece)
    elif isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod) and isinstance(part.left, ast.Constant):
        yield from _shown(part.right)
    elif isinstance(part, (ast.Tuple, ast.Dict)):
        for piece in part.elts if isinstance(part, ast.Tuple) else part.values:
            yield from _shown(piece)


def _is_of_last_batch(run: Interpreter, name: str) -> bool:
    binding = run.frame.scope.names.get(name)
    if run.index.rolls_out:  # a rollout's minibatches are no epoch
        return False
    if binding is None or not isinstance(binding.value, Stat) or name_tables.reads_as_no_result(name):
        return False
    if "metric" in name.lower() or "result" in name.lower():
        return False
    loop = binding.value.loop
    if loop is not None and _hands_on(run, loop.node, name):
        return False
    return loop is not None and not run.is_open(loop) and not loop.equal and not loop.weighs


def _hands_on(run: Interpreter, loop: ast.AST, name: str) -> bool:
    """``state, loss = update(state, x)``: what each batch gets from the one before."""
    computed = run.index.mentions[loop].computed if loop in run.index.mentions else []
    return any(len(targets) > 1 and name in targets and name in sources for targets, sources in computed)


def _is_first(run: Interpreter, name: str) -> bool:
    """Whether nothing reported that value before: what a function returns, its caller only hands on."""
    value = run.frame.scope.names[name].value
    statement = id(run.frame.statement)
    return run.stale.setdefault(id(value.origin) if isinstance(value, Stat) else 0, statement) == statement


def named_loader(run: Interpreter, name: str, value: LoaderValue) -> None:
    """``val_loader = DataLoader(..., drop_last=True)``."""
    built = value.loader.built
    if built is not None and value.loader.drops_last and evaluates(name):
        run.suspect(Topic.DROPPED_TAIL, built, f"{name} is built with drop_last=True")


@contextmanager
def branch(run: Interpreter, test: ast.expr, otherwise: bool = False) -> Iterator[None]:
    """A branch for evaluation, as ``if flag == "test":``, while it is read."""
    says = _said_for_evaluation(test, otherwise)
    if says:
        run.frame.branches.append(says)
    yield
    if says:
        run.frame.branches.pop()


def _said_for_evaluation(test: ast.expr, otherwise: bool) -> str:
    """What a branch says that is taken for evaluation only, as ``flag == 'test'``; "" for another."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return ""
    keys = [part.value for part in ast.walk(test.comparators[0]) if isinstance(part, ast.Constant)]
    texts = [key for key in keys if isinstance(key, str)]
    equal = isinstance(test.ops[0], (ast.Eq, ast.In))
    if not texts or not isinstance(test.ops[0], (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
        return ""
    if equal is not otherwise:  # taken where it is one of these
        return ast.unparse(test) if all(map(evaluates, texts)) else ""
    return f"not {texts[0]!r}" if texts == ["train"] else ""


def set_in_branch(run: Interpreter, name: str, value: Value) -> None:
    """``drop_last = True`` in a branch for evaluation."""
    if run.frame.branches and isinstance(value, Const) and run.frame.statement is not None:
        if value.value is True:
            run.frame.set_for_evaluation[name] = run.frame.statement, run.frame.branches[-1]
        else:
            run.frame.set_for_evaluation.pop(name, None)


def built_loader(run: Interpreter, node: ast.Call, drop: ast.expr | None) -> None:
    """``DataLoader(..., drop_last=drop_last)``, where that is True in a branch for evaluation."""
    if drop is None:
        return
    data = argument_of(node, 0, "dataset")
    if isinstance(drop, ast.Constant) and drop.value is True and data is not None:
        method = run.frame.me is not None and not last_word(data)
        holder = run.frame.name if method and name_tables.reads_as_loader(run.frame.name) else ""
        if evaluates(last_word(data)) or evaluates(holder):
            run.suspect(Topic.DROPPED_TAIL, node, f"a loader of {last_word(data) or holder} has drop_last=True")
            return
    if isinstance(drop, ast.IfExp):
        for value, otherwise in ((drop.body, False), (drop.orelse, True)):
            says = _said_for_evaluation(drop.test, otherwise)
            if says and isinstance(value, ast.Constant) and value.value is True:
                run.suspect(Topic.DROPPED_TAIL, node, f"drop_last is True where {says}")
        return
    known = run.frame.set_for_evaluation.get(ast.unparse(drop))
    if known is not None:
        run.suspect(Topic.DROPPED_TAIL, known[0], f"the loader drops its last batch where {known[1]}")
    elif run.frame.branches and isinstance(drop, ast.Constant) and drop.value is True:
        run.suspect(Topic.DROPPED_TAIL, node, f"the loader drops its last batch where {run.frame.branches[-1]}")
    elif isinstance(drop, ast.Compare):
        _compared(run, node, drop)


def _compared(run: Interpreter, node: ast.Call, drop: ast.Compare) -> None:
    """``drop_last=flag != "train"``."""
    says = _said_for_evaluation(drop, otherwise=False)
    if says:
        run.suspect(Topic.DROPPED_TAIL, node, f"the loader drops its last batch where {says}")


def evaluates(name: str) -> bool:
    return name_tables.reads_as_evaluation(name) and "train" not in name.lower()


def sampler(run: Interpreter, node: ast.Call, dropped: bool) -> None:
    """``val_sampler = DistributedSampler(dataset)``."""
    statement = run.frame.statement
    if dropped or not isinstance(statement, ast.Assign):
        return
    texts = [ast.unparse(target) for target in statement.targets] + [ast.unparse(a) for a in node.args[:1]]
    if any(evaluates(text) for text in texts) and "train" not in " ".join(texts).lower():
        run.suspect(Topic.PADDED_SAMPLER, node, "the sampler repeats samples until the ranks have equally many")


def accumulation(run: Interpreter, node: ast.expr, loss: Stat) -> None:
    """``loss / steps`` for a loss that is no plain mean, where an update waits for so many batches."""
    loop = run.batch_loop()
    if loss.quantity not in _NOT_PLAIN or loop is None:
        return
    text = ast.unparse(node.right) if isinstance(node, ast.BinOp) else ""
    mentions = run.index.mentions.get(loop.node)
    if "accum" in text.lower() or (mentions is not None and text in mentions.windows):
        run.suspect(Topic.DIVIDED_ACCUMULATION, run.frame.statement or node, loss.why)
