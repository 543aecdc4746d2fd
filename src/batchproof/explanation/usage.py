"""Code to paste: what to write instead of a mean of per-batch values.  It runs as it stands, or there is none."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from typing_extensions import assert_never

from batchproof.explanation.cause_texts import CAUSES, Use
from batchproof.explanation.functions import ResultLeaf
from batchproof.explanation.result import Code, Subject
from batchproof.explanation.samples import Samples
from batchproof.ground.target import name_of
from batchproof.ground.trees import is_array


def usage(subject: Subject, samples: Samples, leaf: ResultLeaf, verdict: Code, *, refused: bool) -> tuple[str, ...]:
    """What to do before the first batch, on each batch, and after the last.

    Args:
        subject: the function.
        samples: which it was called with.
        leaf: which of its values is averaged.
        verdict: what was found of it.
        refused: whether ``exact`` refuses it.
    """
    name, arguments = _name(subject.target), _arguments(samples)
    what = () if name == name_of(subject.target) else (f"# {name}: {_described(subject)}",)
    value = f"{name}({arguments}){_number(leaf)}"
    use = CAUSES[verdict].use
    match use:
        case Use.NOTHING:
            return ()
        case Use.WEIGHTED:
            return (*what, *_totalled(f"{value} * {_length(samples)}"))
        case Use.ADDED:
            return (*what, *_totalled(value))
        case Use.EXACT:
            return () if refused else (*what, *exact_lines(name, arguments))
        case _:
            assert_never(use)


def exact_lines(name: str, arguments: str) -> tuple[str, ...]:
    r"""``exact`` in place of a function that is averaged over batches.

    >>> print(*exact_lines("rmse", "pred, real"), sep="\n")
    metric = batchproof.exact(rmse)
    metric(pred, real)  # on each batch, in place of rmse(pred, real)
    metric.compute()    # after the last batch: the value on all samples
    """
    call = f"metric({arguments})"
    return (
        f"metric = batchproof.exact({name})",
        *_noted((call, f"on each batch, in place of {name}({arguments})"),
                ("metric.compute()", "after the last batch: the value on all samples")),
    )  # fmt: skip


def _totalled(term: str) -> tuple[str, ...]:
    total = ("total / len(dataset)", "after the last batch: the value on all samples")
    return ("total = 0.0", *_noted((f"total += {term}", "on each batch"), total))


def _noted(*rows: tuple[str, str]) -> Iterator[str]:
    """Lines with their comments below each other."""
    longest = max(len(code) for code, _ in rows)
    return (f"{code.ljust(longest)}  # {note}" for code, note in rows)


def _name(target: Any) -> str:
    """A function's own name; what scripts call a module; ``fn`` for a lambda or a partial."""
    name = name_of(target)
    if inspect.isroutine(target) and name.isidentifier() and name != "lambda":
        return name
    return "criterion" if isinstance(target, torch.nn.Module) else "fn"


def _described(subject: Subject) -> str:
    return f"your {name_of(subject.target)}" if isinstance(subject.target, torch.nn.Module) else "your function"


def _number(leaf: ResultLeaf) -> str:
    """From what the function returns to the number: ``['mae'].item()``."""
    return leaf.path + (".item()" if leaf.has_item else "")


def _arguments(samples: Samples) -> str:
    """As the call is written: whole arguments, never the parts of one."""
    whole = list(dict.fromkeys(map(_argument, samples.layout.names)))
    if any(not name.isidentifier() for name in whole):
        return "*batch"
    given = [f"{name}={name}" if name in samples.layout.keywords else name for name in whole]
    return ", ".join([*given, *_fixed(samples.fixed)])


def _fixed(keywords: Mapping[str, Any]) -> list[str]:
    plain = (bool, int, float, str, type(None))
    return [f"{name}={value!r}" if isinstance(value, plain) else f"{name}={name}" for name, value in keywords.items()]


def _argument(name: str) -> str:
    """``out`` of ``'out.scores'``."""
    return re.split(r"[.\[]", name[1:-1])[0]


def _length(samples: Samples) -> str:
    """How many samples the batch has, by an argument that carries some."""
    for name, dim, leaf in zip(samples.layout.names, samples.dims, samples.leaves, strict=True):
        if dim is not None:
            part = name[1:-1] if _argument(name).isidentifier() else "batch[0]"
            measured = isinstance(leaf, torch.Tensor) or is_array(leaf)
            return f"{part}.shape[{dim}]" if dim and measured else f"len({part})"
    return "1"
