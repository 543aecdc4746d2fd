"""Two tensors beside each other: the same, close up to rounding, or how far apart; and what is said of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Two ways to one value differ by this in float64, relatively: more is another value.
ROUNDING = 1e-9
#: Beside numbers that are not small, what is below this is 0.
NEXT_TO_NOTHING = 1e-12


def same(a: Tensor, b: Tensor) -> bool:
    """Whether all numbers are equal, NaN to NaN too, in one shape and type and on one device."""
    alike = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
    return alike and bool(torch.allclose(a.detach(), b.detach(), rtol=0, atol=0, equal_nan=True))


def close(a: Tensor, b: Tensor, relative: float = ROUNDING, absolute: float = 0.0) -> bool:
    """Whether two tensors of one shape are equal but for ``absolute`` and ``relative`` times the second; NaN to NaN."""
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=relative, atol=absolute, equal_nan=True))


def gap(a: Tensor, b: Tensor, scale: float = 0.0) -> float:
    """The largest difference, relative to the largest number; infinite where one is not finite and the other is.

    Args:
        a: one tensor.
        b: another, whose numbers the difference is measured by.
        scale: what it is measured by at least.
    """
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    a, b = (x.to(torch.complex128 if x.dtype.is_complex else torch.float64) for x in (a, b))
    equal = (a == b) | (torch.isnan(a) & torch.isnan(b))
    if bool(equal.all()):
        return 0.0
    finite = torch.isfinite(a) & torch.isfinite(b)
    if not bool((equal | finite).all()):
        return float("inf")
    size = max(float(b[finite].abs().max()), scale, 1e-300)
    return float((a - b)[finite].abs().max()) / size


def version(tensor: Tensor) -> int:
    """How often a tensor was written to."""
    return 0 if tensor.is_inference() else tensor._version


def raw_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor, one after another, as they lie in memory."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def of_raw_bytes(data: bytes, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """The tensor of which `raw_bytes` made these bytes, on the CPU."""
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.reshape(tuple(shape))
