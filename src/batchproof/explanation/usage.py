"""Code to paste: what to write instead of a mean of per-batch values.  It runs as it stands, or there is none."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from typing_extensions import assert_never

from batchproof.explanation.cause_texts import CAUSES, Use
from batchproof.explanation.functions import ResultLeaf
from batchproof.explanation.result import Code
from batchproof.explanation.samples import Samples
from batchproof.ground.target import name_of
from batchproof.ground.trees import is_array

#: What is written for a function that has no name of its own: a lambda, a module, a partial.
NAMELESS = "fn"


def usage(target: Any, samples: Samples, leaf: ResultLeaf, verdict: Code, *, refused: bool) -> tuple[str, ...]:
    """Two lines: what to do for each batch, and what at the end.

    Args:
        target: the function.
        samples: which it was called with.
        leaf: which of its values is averaged.
        verdict: what was found of it.
        refused: whether ``exact`` refuses it.
    """
    name, call = _name(target), _arguments(samples)
    use = CAUSES[verdict].use
    match use:
        case Use.NOTHING:
            return ()
        case Use.WEIGHTED:
            return (f"total += {name}({call}){_number(leaf)} * {_length(samples)}", "total / len(dataset) at the end")
        case Use.ADDED:
            return (f"total += {name}({call}){_number(leaf)}", "total / len(dataset) at the end")
        case Use.EXACT:
            own = name if name != NAMELESS else "metric"
            steps = f"{own}({call}) per batch, {own}.compute() per epoch"
            return () if refused else (f"{own} = batchproof.exact({name})", steps)
        case _:
            assert_never(use)


def _name(target: Any) -> str:
    name = name_of(target)
    has_name = inspect.isroutine(target) and name.isidentifier() and name != "lambda"
    return name if has_name else NAMELESS


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
