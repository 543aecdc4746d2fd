"""Operations that hide a sum over samples, written out so that the sum can be seen.

mean is a sum and a division, a variance is a sum around a mean, a reduced loss is its unreduced form, summed.
torch's own decompositions serve for the rest.  An operation is split only where it mixes samples: `classify` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import decomposition_table

aten = torch.ops.aten
Rule = Callable[..., Any]


def _dims(x: torch.Tensor, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return list(range(x.ndim))
    return [d % x.ndim for d in ([dim] if isinstance(dim, int) else dim)] if x.ndim else []


def _count(x: torch.Tensor, dims: list[int]) -> int:
    count = 1
    for d in dims:
        count *= x.shape[d]
    return count


def mean(x: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> torch.Tensor:
    """A mean as a sum and a division."""
    dims = _dims(x, dim)
    return torch.sum(x, dims, keepdim, dtype=dtype) / _count(x, dims)


def var(x: torch.Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> torch.Tensor:
    """A variance as sums around a mean."""
    dims = _dims(x, dim)
    count, correction = _count(x, dims), 1 if correction is None else correction
    centred = x - torch.sum(x, dims, True) / count
    squares = centred * centred.conj() if x.is_complex() else centred.square()
    variance: torch.Tensor = torch.sum(squares, dims, keepdim) / max(count - correction, 0)
    return variance


def std(x: torch.Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> torch.Tensor:
    """A standard deviation as the root of a variance."""
    return torch.sqrt(var(x, dim, correction=correction, keepdim=keepdim))


def var_mean(x: torch.Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Any:
    """A variance and a mean, each as sums."""
    return var(x, dim, correction=correction, keepdim=keepdim), mean(x, dim, keepdim)


def std_mean(x: torch.Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Any:
    """A standard deviation and a mean, each as sums."""
    return std(x, dim, correction=correction, keepdim=keepdim), mean(x, dim, keepdim)


def nanmean_parts(x: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> torch.Tensor:
    """A mean of what is not NaN, as a sum and a count."""
    dims = _dims(x, dim)
    return torch.nansum(x, dims, keepdim, dtype=dtype) / torch.sum(~torch.isnan(x), dims, keepdim)


def nansum(x: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> torch.Tensor:
    """A sum of what is not NaN, as a sum with zeros in its place."""
    return torch.sum(torch.where(torch.isnan(x), torch.zeros_like(x), x), _dims(x, dim), keepdim, dtype=dtype)


def vector_norm(
    x: torch.Tensor, order: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> torch.Tensor:
    """A vector norm as a sum, or as an extreme."""
    dims = _dims(x, dim)
    if dtype is not None:
        x = x.to(dtype)
    if order == 2:
        return torch.sqrt(torch.sum(x.abs().square() if x.is_complex() else x.square(), dims, keepdim))
    if order == float("inf"):
        return torch.amax(x.abs(), dims, keepdim)
    if order == float("-inf"):
        return torch.amin(x.abs(), dims, keepdim)
    if order == 0:
        return torch.sum(x != 0, dims, keepdim).to(x.dtype)
    total: torch.Tensor = torch.sum(x.abs() ** order, dims, keepdim) ** (1.0 / order)
    return total


def norm(x: torch.Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> torch.Tensor:
    """``torch.norm`` as a vector norm."""
    return vector_norm(x, 2 if p is None else p, dim, keepdim, dtype=dtype)


def softmax(x: torch.Tensor, dim: int, half_to_float: bool) -> torch.Tensor:
    """A softmax as exponentials over their sum."""
    exp = torch.exp(x - torch.amax(x, dim, True))
    return exp / torch.sum(exp, dim, True)


def log_softmax(x: torch.Tensor, dim: int, half_to_float: bool) -> torch.Tensor:
    """A logarithm of softmax, as a shifted sum of exponentials."""
    shifted = x - torch.amax(x, dim, True)
    return shifted - torch.log(torch.sum(torch.exp(shifted), dim, True))


def logsumexp(x: torch.Tensor, dim: Any, keepdim: bool = False) -> torch.Tensor:
    """A logarithm of a sum of exponentials, shifted by the largest."""
    dims = _dims(x, dim)
    top = torch.amax(x, dims, True)
    top = torch.where(torch.isinf(top), torch.zeros_like(top), top)
    total = torch.log(torch.sum(torch.exp(x - top), dims, keepdim))
    return total + (top if keepdim else top.squeeze(dims))


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """``torch.equal`` as a comparison of all elements."""
    return a.shape == b.shape and bool((a == b).all())


def squeeze(x: torch.Tensor) -> torch.Tensor:
    """``torch.squeeze`` with the dimensions named, which sizes of one sample would otherwise decide."""
    squeezed: torch.Tensor = aten.squeeze.dims(x, [d for d in range(x.ndim) if x.shape[d] == 1])
    return squeezed


def linalg_solve(a: torch.Tensor, b: torch.Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """The solution of linear equations by factors of the matrix, which may be one that all samples share."""
    factors, pivots, info = aten.linalg_lu_factor_ex(a, check_errors=check_errors)
    vector = b.ndim == 1 or b.shape == a.shape[:-1]
    solution = aten.linalg_lu_solve(factors, pivots, b.unsqueeze(-1) if vector else b, left=left)
    return solution.squeeze(-1) if vector else solution, factors, pivots, info


def linalg_check_errors(info: torch.Tensor, name: str, *, is_matrix: bool) -> None:
    """A look at whether a factorisation failed for any sample, which torch takes without showing it."""
    if bool((info != 0).any()):
        raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
            f"{name}: a matrix is singular, or not positive definite"
        )


def ones_like(x: torch.Tensor, *, dtype: Any = None, **layout: Any) -> Any:
    """A one beside a single number, which does not depend on that number: where a gradient taken inside starts."""
    if x.ndim or dtype is not None or not x.dtype.is_floating_point:
        return NotImplemented
    return torch.ones((), device=x.device)


def aminmax(x: torch.Tensor, *, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest and the largest, one by one."""
    dims = _dims(x, dim)
    return torch.amin(x, dims, keepdim), torch.amax(x, dims, keepdim)


def max_default(x: torch.Tensor) -> torch.Tensor:
    """The largest of all elements, over named dimensions."""
    return torch.amax(x, list(range(x.ndim)), False)


def min_default(x: torch.Tensor) -> torch.Tensor:
    """The smallest of all elements, over named dimensions."""
    return torch.amin(x, list(range(x.ndim)), False)


def count_nonzero(x: torch.Tensor, dim: Any = None) -> torch.Tensor:
    """A count of what is not zero, as a sum of truths."""
    return torch.sum(x != 0, _dims(x, dim))


def native_batch_norm(x: torch.Tensor, weight: Any, bias: Any, *rest: Any) -> Any:
    """Batch normalisation by torch's own decomposition of its functional form."""
    return decomposition_table[aten._native_batch_norm_legit_functional.default](x, weight, bias, *rest)


def _reduced(func: Any) -> Rule:
    """A loss with a ``reduction`` argument: its unreduced form, summed, and divided by the count for a mean."""
    names = [argument.name for argument in func._schema.arguments]

    def rule(*args: Any, **kwargs: Any) -> Any:
        bound = dict(zip(names, args, strict=False), **kwargs)
        reduction = bound.get("reduction", 1)
        if reduction == 0:
            return NotImplemented
        each = func(**{**bound, "reduction": 0})
        total = torch.sum(each)
        return total / each.numel() if reduction == 1 else total

    return rule


def nll_loss_forward(x: torch.Tensor, target: torch.Tensor, weight: Any, reduction: int, ignore_index: int) -> Any:
    """A negative log-likelihood as a sum over samples, and the sum of their weights."""
    if reduction == 0:
        return NotImplemented
    each = torch.nn.functional.nll_loss(x, target, weight, ignore_index=ignore_index, reduction="none")
    kept = target != ignore_index
    if weight is None:
        total_weight = torch.sum(kept).to(x.dtype)
    else:
        safe = torch.where(kept, target, torch.zeros_like(target))
        weights = torch.index_select(weight, 0, safe.reshape(-1)).reshape(safe.shape)
        total_weight = torch.sum(torch.where(kept, weights, torch.zeros_like(weights)))
    total = torch.sum(each)
    return (total / total_weight if reduction == 1 else total), total_weight


def nll_loss_by_class(x: torch.Tensor, target: torch.Tensor, weight: Any, reduction: int, ignore_index: int) -> Any:
    """A negative log-likelihood with the weights of classes taken out of the sum: they may follow from the batch.

    Sums of the losses and counts of each class add over batches, whatever the weights will be.
    """
    if weight is None:
        return nll_loss_forward(x, target, weight, reduction, ignore_index)
    each = torch.nn.functional.nll_loss(x, target, None, ignore_index=ignore_index, reduction="none")
    kept = target != ignore_index
    classes = torch.where(kept, target, torch.zeros_like(target)).reshape(-1)
    if reduction == 0:
        weights = torch.index_select(weight, 0, classes).reshape(target.shape)
        return torch.where(kept, each * weights, torch.zeros_like(each)), torch.zeros((), device=x.device)
    nothing = torch.zeros(weight.shape, dtype=x.dtype, device=x.device)
    losses = torch.index_add(nothing, 0, classes, each.reshape(-1))
    counts = torch.index_add(nothing, 0, classes, kept.reshape(-1).to(x.dtype))
    present = counts > 0  # a class that does not occur may have an infinite weight
    total = torch.sum(torch.where(present, losses * weight, nothing))
    total_weight = torch.sum(torch.where(present, counts * weight, nothing))
    return (total / total_weight if reduction == 1 else total), total_weight


def mse_loss(x: torch.Tensor, y: torch.Tensor, reduction: int = 1) -> torch.Tensor:
    """A mean squared error as a sum of squares over their count."""
    each = (x - y).square()
    return each if reduction == 0 else torch.sum(each) / each.numel() if reduction == 1 else torch.sum(each)


def multilabel_margin_loss_forward(x: torch.Tensor, target: torch.Tensor, reduction: int) -> Any:
    """A multi-label margin loss as the sum of those of single samples."""
    if reduction == 0:
        return NotImplemented
    each, is_target = aten.multilabel_margin_loss_forward(x, target, 0)
    total = torch.sum(each)
    return (total / each.numel() if reduction == 1 else total), is_target


def _onto(func: Any) -> Rule:
    """Adding into a tensor: that tensor, and what is added into zeros.

    What the tensor holds does not matter: a buffer that happens to be zero counts once all the same, not once a batch.
    """

    def rule(x: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
        if "index_put" in func.__name__ and True not in (*rest[2:3], kwargs.get("accumulate", False)):
            return NotImplemented
        return x + func(torch.zeros_like(x), *rest, **kwargs)

    return rule


def scatter_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """What is added at each place, or its mean, apart from what is there."""
    if reduce == "mean":
        return _mean_at(torch.scatter_add, x, dim, index, source, include_self)
    if reduce != "sum" or not include_self:
        return NotImplemented
    return x + aten.scatter_reduce.two(torch.zeros_like(x), dim, index, source, reduce)


def index_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """A mean of the slices that come to each place, apart from what is there."""
    return _mean_at(torch.index_add, x, dim, index, source, include_self) if reduce == "mean" else NotImplemented


def _mean_at(
    add: Callable[..., torch.Tensor],
    x: torch.Tensor,
    dim: int,
    index: torch.Tensor,
    source: torch.Tensor,
    include_self: bool,
) -> Any:
    """A mean at each place as a sum and a count."""
    if not x.dtype.is_floating_point:  # whole numbers are rounded
        return NotImplemented
    nothing = torch.zeros_like(x)
    totals, counts = add(nothing, dim, index, source), add(nothing, dim, index, torch.ones_like(source))
    return (x + totals) / (1 + counts) if include_self else torch.where(counts > 0, totals / counts, x)


_OWN: dict[Any, Rule] = {
    aten.mean.default: mean,
    aten.mean.dim: mean,
    aten.var.correction: var,
    aten.std.correction: std,
    aten.var_mean.correction: var_mean,
    aten.std_mean.correction: std_mean,
    aten.nansum.default: nansum,
    aten.nanmean.default: nanmean_parts,
    aten.linalg_vector_norm.default: vector_norm,
    aten.norm.ScalarOpt_dim: norm,
    aten.norm.Scalar: norm,
    aten.norm.ScalarOpt_dtype: norm,
    aten._softmax.default: softmax,
    aten._log_softmax.default: log_softmax,
    aten.logsumexp.default: logsumexp,
    aten.equal.default: equal,
    aten.squeeze.default: squeeze,
    aten._linalg_solve_ex.default: linalg_solve,
    aten._linalg_check_errors.default: linalg_check_errors,
    aten.ones_like.default: ones_like,
    aten.aminmax.default: aminmax,
    aten.max.default: max_default,
    aten.min.default: min_default,
    aten.count_nonzero.default: count_nonzero,
    aten.count_nonzero.dim_IntList: count_nonzero,
    aten.nll_loss_forward.default: nll_loss_forward,
    aten.nll_loss2d_forward.default: nll_loss_forward,
    aten.mse_loss.default: mse_loss,
    aten.native_batch_norm.default: native_batch_norm,
    aten.multilabel_margin_loss_forward.default: multilabel_margin_loss_forward,
}

#: Of the outermost operations only: what they are written out in is the same operation, on zeros.
_ONTO = {func: _onto(func) for func in (aten.scatter_add.default, aten.index_add.default, aten.index_put.default)}
_ONTO |= {aten.scatter_reduce.two: scatter_reduce, aten.index_reduce.default: index_reduce}

#: Of operations that were written out, and still mix samples: further.
_FURTHER: dict[Any, Rule] = {
    aten.nll_loss_nd.default: nll_loss_by_class,
    aten.nll_loss_forward.default: nll_loss_by_class,
    aten.nll_loss2d_forward.default: nll_loss_by_class,
}

_OWN |= {
    func: _reduced(func)
    for func in (
        aten.smooth_l1_loss.default,
        aten.huber_loss.default,
        aten.soft_margin_loss.default,
        aten.binary_cross_entropy.default,
        aten.multi_margin_loss.default,
    )
}

#: Split wherever they stand: they read values in Python, which must be seen as a read; a bare ``squeeze`` would also
#: drop the batch's dimension of a batch of one; a solution's factors, and where a gradient starts, depend on no sample.
ALWAYS = frozenset(
    {
        aten.equal.default,
        aten.squeeze.default,
        aten._linalg_check_errors.default,
        aten._linalg_solve_ex.default,
        aten.ones_like.default,
    }
)

_BY_DIM = frozenset(
    {
        aten.mean.default,
        aten.mean.dim,
        aten.var.correction,
        aten.std.correction,
        aten.var_mean.correction,
        aten.std_mean.correction,
        aten.mse_loss.default,
        aten.nll_loss_forward.default,
    }
)


def at_once(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether to split without trying first: it would be split all the same, or must be."""
    if func in ALWAYS:
        return True
    if func not in _BY_DIM:
        return False
    if func is aten.mse_loss.default:
        return len(args) < 3 or args[2] != 0
    if func is aten.nll_loss_forward.default:
        return bool(args[3] != 0)
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    return dims in (None, []) or 0 in (dims if isinstance(dims, (list, tuple)) else [dims])


def decomposition(func: Any, depth: int = 0, further: bool = True) -> Rule | None:
    """The rule that writes an operation out in simpler ones, or None.

    Args:
        func: the operation.
        depth: in how many others it is written; torch's own table serves the outermost only.
        further: whether what can be written out at once is to be written out further.
    """
    rule = _FURTHER.get(func) if further and depth == 0 else None
    rule = rule or _OWN.get(func)
    if rule is None and depth == 0:
        rule = _ONTO.get(func) or decomposition_table.get(func)
    return rule
