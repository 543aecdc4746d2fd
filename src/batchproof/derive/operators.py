"""What is known of torch's operators, whatever the values: which add over samples, move values, are analytic."""

from __future__ import annotations

from typing import Any

from batchproof.derive.recording import Op

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

#: Arithmetic on whole numbers that is the same on any numbers.
EXACT_ARITHMETIC = frozenset("add sub rsub mul neg sum _to_copy where masked_fill".split())


def base_name(op: Op) -> str:
    """The name of an operator without its overload and its namespace."""
    return str(op.func._schema.name).split("::")[-1]


def is_view(op: Op) -> bool:
    """Whether ``as_strided`` only gives a contiguous tensor another shape."""
    sizes, strides, *offset = op.args[1:]
    step: Any = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if stride != step:
            return False
        step = step * size if isinstance(size, int) and isinstance(step, int) else None
    return offset in ([], [None], [0]) and not op.kwargs
