"""How an operation is written as Python: torch's operators and methods reach a kernel sooner than its dispatcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from batchproof.derive.recording import Op

aten = torch.ops.aten

_OPERATORS: dict[Any, str] = {
    aten.add.Tensor: "{0} + {1}",
    aten.sub.Tensor: "{0} - {1}",
    aten.mul.Tensor: "{0} * {1}",
    aten.div.Tensor: "{0} / {1}",
    aten.add.Scalar: "{0} + {1}",
    aten.sub.Scalar: "{0} - {1}",
    aten.mul.Scalar: "{0} * {1}",
    aten.div.Scalar: "{0} / {1}",
    aten.rsub.Scalar: "{1} - {0}",
    aten.neg.default: "-{0}",
    aten.square.default: "{0} * {0}",
    aten.eq.Tensor: "{0} == {1}",
    aten.eq.Scalar: "{0} == {1}",
    aten.ne.Tensor: "{0} != {1}",
    aten.ne.Scalar: "{0} != {1}",
    aten.gt.Tensor: "{0} > {1}",
    aten.gt.Scalar: "{0} > {1}",
    aten.ge.Tensor: "{0} >= {1}",
    aten.ge.Scalar: "{0} >= {1}",
    aten.lt.Tensor: "{0} < {1}",
    aten.lt.Scalar: "{0} < {1}",
    aten.le.Tensor: "{0} <= {1}",
    aten.le.Scalar: "{0} <= {1}",
    aten.mm.default: "{0} @ {1}",
    aten.bitwise_and.Tensor: "{0} & {1}",
    aten.bitwise_or.Tensor: "{0} | {1}",
    aten.bitwise_not.default: "~{0}",
    # functional code has no aliases to keep apart
    aten.clone.default: "{0}",
    aten.detach.default: "{0}.detach()",  # where a gradient ends
    aten.alias.default: "{0}",
    aten.lift_fresh.default: "{0}",
}

#: Methods that take what the operation of the same name takes.
_METHODS = frozenset(
    """abs exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal sigmoid tanh relu sin cos sign floor ceil nan_to_num
clamp clamp_min clamp_max maximum minimum logical_and logical_or logical_not isnan isinf isfinite argmax argmin amax
amin sum cumsum unsqueeze squeeze expand permute transpose t diagonal select gather index_select index_add scatter_add
bincount count_nonzero bmm mv""".split()
)

_OVER_DIMS = ("sum", "amin", "amax")

_RENAMED = {"view": "reshape", "_unsafe_view": "reshape", "_softmax": "softmax", "_log_softmax": "log_softmax"}

_FUNCTIONS = {
    "where": torch.where,
    "zeros_like": torch.zeros_like,
    "ones_like": torch.ones_like,
    "cat": torch.cat,
    "stack": torch.stack,
}

_CASTS = {torch.float64: "double", torch.float32: "float", torch.int64: "long", torch.int32: "int", torch.bool: "bool"}

#: What code written here may name.
SPACE = {
    "dot": torch.dot, "vecdot": torch.linalg.vecdot, "nll_loss": torch.nn.functional.nll_loss,
    **_FUNCTIONS,
}  # fmt: skip


def spelled(op: Op, rendered: Sequence[str], keywords: dict[str, str], space: dict[str, Any]) -> str | None:
    """The operation on arguments that are written out already; None where only the dispatcher knows it."""
    name = str(op.func._schema.name).split("::")[-1]
    operator = _OPERATORS.get(op.func)
    if operator is not None:
        return operator.format(*rendered) if not keywords and len(rendered) == 1 + ("{1}" in operator) else None
    if op.func is aten.pow.Tensor_Scalar and rendered[1] in ("2", "2.0"):
        return f"{rendered[0]} * {rendered[0]}"
    if name == "_to_copy":
        return f"{rendered[0]}.{_cast(keywords['dtype'], space)}" if set(keywords) == {"dtype"} else None
    if op.func is aten.copy.default:  # which has no derivative
        return f"{rendered[1]}.to({rendered[0]}.dtype).expand_as({rendered[0]})"
    if name == "as_strided":  # only views are folded, and here the layout may be another
        return f"{rendered[0]}.reshape({rendered[1]})"
    if name in ("_softmax", "_log_softmax"):
        rendered = rendered[:2]  # the rest is for half precision on a GPU
    if name == "nll_loss_nd" and rendered[3:4] == ["0"]:
        ignored = f", ignore_index={rendered[4]}" if len(rendered) > 4 else ""
        return f"nll_loss({', '.join(rendered[:3])}{ignored}, reduction='none')"
    dims = [_one_dim(rendered[1]), *rendered[2:]] if name in _OVER_DIMS and len(rendered) > 1 else rendered[1:]
    rest = ", ".join([*dims, *(f"{key}={value}" for key, value in keywords.items())])
    if name in _METHODS or name in _RENAMED:
        return f"{rendered[0]}.{_RENAMED.get(name, name)}({rest})"
    if name in _FUNCTIONS:
        return f"{name}({rendered[0]}{', ' if rest else ''}{rest})"
    return None


def _one_dim(text: str) -> str:
    """A list of one dimension as that dimension, which is read faster."""
    return text[1:-1] if text.startswith("[") and len(text) > 2 and "," not in text else text


def _cast(dtype: str, space: dict[str, Any]) -> str:
    method = _CASTS.get(space[dtype])
    return f"{method}()" if method else f"to({dtype})"
