"""What is known of torch's operators, whatever the values: which add over samples, go by place, are analytic."""

from __future__ import annotations

from typing import Any

from batchproof.derive.program import Op, Size, leaves

#: Analytic in every floating argument: an identity that holds on an open set of arguments holds for all.
ANALYTIC = frozenset(
    """add sub rsub mul div neg pow square exp exp2 expm1 log log1p log2 log10 sqrt rsqrt reciprocal sin cos tanh
sigmoid erf mm bmm mv dot addmm baddbmm sum view _unsafe_view reshape unsqueeze squeeze permute transpose t expand
clone detach alias lift_fresh _to_copy where masked_fill select slice diagonal unbind split split_with_sizes cat
stack index gather index_select _softmax _log_softmax logsumexp flip conj _conj real imag trace cumsum zeros_like
ones_like full_like new_zeros new_ones new_full movedim contiguous prod einsum addcmul addcdiv linalg_vector_norm
mean broadcast_in_dim var std var_mean narrow copy lift_fresh_copy to fill triu tril full""".split()
)

#: Analytic, and every sample takes part: none is picked, masked or moved.
SMOOTH = ANALYTIC - frozenset(
    """where masked_fill select slice diagonal unbind split split_with_sizes cat stack index gather index_select flip
cumsum narrow triu tril fill full""".split()
)

#: Of these only polynomials are made (and quotients, where something is divided by samples).
POLYNOMIAL = frozenset(
    """add sub rsub mul neg pow square sum mean div view _unsafe_view reshape unsqueeze squeeze permute transpose t
expand clone detach alias _to_copy mm bmm mv dot zeros_like ones_like full_like new_zeros new_ones new_full""".split()
)

#: Only the shape and the dtype of the argument matter, never its values.
SHAPE_ONLY = frozenset(
    {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "empty_like", "new_empty"}
)

#: Values move but do not change: nothing about them depends on what the values are.
VIEWS = frozenset(
    """view _unsafe_view unsqueeze squeeze permute transpose t expand clone detach alias lift_fresh
_to_copy select slice diagonal unbind split split_with_sizes stack""".split()
)

#: The operators that can add over samples. Whatever else seems to add does so by accident (zeros, 0/0).
ADDS = frozenset(
    """sum mm bmm mv dot vdot addmm baddbmm addmv einsum bincount histc index_add scatter_add scatter_reduce
index_put _unsafe_index_put tensordot embedding_dense_backward""".split()
)

#: They pick places along a dimension.
BY_PLACE = frozenset({"select", "narrow", "unbind", "unfold", "diff", "chunk"})

_WHOLE = 2**63 - 1  # an open end of a slice

#: Arithmetic on whole numbers that is the same on any numbers.
EXACT_ARITHMETIC = frozenset("add sub rsub mul neg sum _to_copy where masked_fill".split())


def base_name(op: Op) -> str:
    return str(op.func._schema.name).split("::")[-1]


def by_place(op: Op, value: Any) -> bool:
    """Whether an operation picks samples by their place in the batch, which lies along ``value.dim``."""
    name, rank = base_name(op), len(value.shape)
    if name in ("as_strided", "trace", "diag", "rot90", "roll"):
        return True
    if name in ("tril", "triu"):
        return bool(value.dim >= rank - 2)
    if name == "slice":
        start = op.args[2] if len(op.args) > 2 else None
        end = op.args[3] if len(op.args) > 3 else None
        everything = start in (None, 0) and end in (None, _WHOLE) and len(op.args) <= 4
        return not everything and _along(op, 1) % rank == value.dim
    if name.startswith("split"):
        by_samples = all(isinstance(size, Size) for size in leaves(op.args[1]))  # as many rows as there are samples
        return not by_samples and _along(op, 2) % rank == value.dim
    if name.endswith("_scatter"):
        return bool(op.args[2] % rank == value.dim)
    if name == "flip":
        return value.dim in [d % rank for d in op.args[1]]
    if name == "diagonal":
        pair = op.args[2:4] if len(op.args) >= 4 else (0, 1)
        return value.dim in [d % rank for d in pair]
    return name in BY_PLACE and _along(op, 1) % rank == value.dim


def _along(op: Op, position: int) -> int:
    """The dimension that an operation works along: its argument there, or the first."""
    dim = op.args[position] if len(op.args) > position else op.kwargs.get("dim", 0)
    return dim if isinstance(dim, int) else 0
