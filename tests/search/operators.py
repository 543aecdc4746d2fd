"""Every operator that a user can call, and how: found by trying each with a few patterns of arguments.

``s`` is the samples, ``o`` others of their shape and dtype, ``k`` whole numbers of their shape in 0 to 3, ``b`` truths
of their shape, ``t`` a class for every row; ``i``, ``w`` and ``c`` are the same for all batches.  A call counts if it
gives tensors, the same ones twice, and draws nothing at random.  What was found is in ``calls.txt``, up to a handful
for each name; ``python -m tests.search.operators`` writes it anew.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

#: The shape of one sample.
SHAPES: dict[str, tuple[int, ...]] = {"vector": (), "matrix": (4,), "square": (4, 4)}

METHOD = """
-
0
1
o
dim=0
dim=1
0, k, o
2, 0
2, 1
1, k, o
0, t, o
1, k, o, 'amax'
0, k, o, 'sum'
0, i
b
b, o
0, k
1, k
b, 0.5
0.5
2
-1
0, 1
1, 0
o, o
o, 0.5
k
1, k, 0.5
1, i
1, i, 2.0
0, i, 2.0
i
1, 0, 2
0, 0, 1
(0,)
(1,)
(0, 1)
(-1, 4)
4, -1
o.mT
w
c
torch.float64
(-1,)
1, 2, 1
0, 2, 1
0.5, 0
0.5, 1
-0.5, 0.5
min=0.1
torch.int16
""".strip().splitlines()

FUNCTION = """
s
s, o
s, o, o
s, 1
s, 0
s, dim=0
s, dim=1
s, t
s, t, reduction='sum'
s, o, reduction='sum'
s, o, reduction='none'
s, (1, 1)
s, (1, 0, 0, 0)
s, (4,)
s, 2
s[None], 2
s[:, None], 2
s, w
s, w, c
s[:, None], w[None, :1]
s.t()[None], 2
s, o.sign()
s, o.abs()
s, o, o.abs() + 0.1
s, o, t * 2.0 - 1
s, b.double()
s, b.to(s.dtype)
k, w
t, w
k
t
t, 4
s, None, None, training=True
""".strip().splitlines()

LISTED = """
s
s, o
[s, o]
[s, o], 0
[s, o], 1
(s, o)
s, o, o
s, 0
s, 1
s, dim=0
s, dim=1
b, s, o
c, s
s, c
w, s.mT
s, o, 0.5
t, s
k, s
""".strip().splitlines()

#: Not of numbers: memory, devices, other libraries, types, what warns or exits.
LEFT_OUT = frozenset(
    """apply_ map_ map2_ backward bernoulli_ cauchy_ exponential_ geometric_ log_normal_ normal_ random_ uniform_
    cpu cuda data_ptr detach_ element_size get_device numpy pin_memory record_stream register_hook
    requires_grad_ resize resize_ resize_as resize_as_ retain_grad share_memory_ storage storage_offset
    storage_type stride to_sparse tolist type untyped_storage values indices coalesce ipu xpu mtia hpu
    module_load rename rename_ refine_names align_to align_as names new new_empty new_empty_strided empty_like
    rand_like randn_like randint_like bernoulli multinomial poisson normal rand randn randint randperm empty
    empty_strided empty_permuted dropout alpha_dropout feature_dropout feature_alpha_dropout native_dropout
    rrelu rrelu_ gumbel_softmax fractional_max_pool2d fractional_max_pool3d compile save load seed initial_seed
    manual_seed quantize_per_tensor fused_moving_avg_obs_fake_quant to_mkldnn to_padded_tensor from_file range
    sparse_resize_ sparse_resize_and_clear_ stft istft is_set_to as_subclass dequantize int_repr q_scale
    to_dense crow_indices ccol_indices row_indices col_indices reinforce dim_order nelement cartesian_prod_
    bartlett_window blackman_window hamming_window hann_window kaiser_window use_deterministic_algorithms
    get_rng_state vmap export cond while_loop is_grad_enabled typename tensor as_tensor from_numpy asarray
    frombuffer sparse_coo_tensor sparse_compressed_tensor sparse_csr_tensor sparse_csc_tensor sparse_bsr_tensor
    sparse_bsc_tensor fill fill_ chain_matmul segment_reduce unravel_index binomial""".split()
)
LEFT_OUT_BEGINNINGS = ("_", "set_", "fbgemm", "sym_", "quant", "use_", "is_", "fake_quant", "mkldnn", "cudnn", "miopen")


def names(owner: Any) -> list[str]:
    return [
        name
        for name in sorted(dir(owner))
        if not name.startswith(LEFT_OUT_BEGINNINGS) and name not in LEFT_OUT and callable(getattr(owner, name))
    ]


def spelled() -> list[str]:
    """Every call that could be."""
    found = []
    for name in names(torch.Tensor):
        own = "s.clone()" if name.endswith("_") else "s"
        found += [f"{own}.{name}({'' if pattern == '-' else pattern})" for pattern in METHOD]
    functions = [name for name in names(F) if name.islower() and not inspect.isclass(getattr(F, name))]
    found += [f"F.{name}({pattern})" for name in functions if not name.endswith("_") for pattern in FUNCTION]
    others = [name for name in names(torch) if not hasattr(torch.Tensor, name) and name.islower()]
    others = [name for name in others if not inspect.isclass(getattr(torch, name)) and not name.endswith("_")]
    found += [f"torch.{name}({pattern})" for name in others for pattern in LISTED]
    for group in ("linalg", "fft", "special"):
        found += [f"torch.{group}.{name}({pattern})" for name in names(getattr(torch, group)) for pattern in LISTED]
    return found


def space() -> dict[str, Any]:
    """What calls may name beside the samples."""
    w = torch.arange(16, dtype=torch.float64).view(4, 4) / 8 - 1
    return {"torch": torch, "F": F, "i": torch.tensor([0, 2]), "w64": w}


def environment(tensors: dict[str, Tensor]) -> dict[str, Any]:
    s = tensors["s"]
    env = {**space(), **tensors}
    env["w"] = env["w64"].to(s.dtype)
    env["c"] = env["w"][1]
    return env


def called(text: str, tensors: dict[str, Tensor]) -> list[Tensor]:
    """The tensors that a call gives, on copies."""
    result = eval(text, environment({name: t.clone() for name, t in tensors.items()}))
    leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
    if not leaves or any(leaf.layout is not torch.strided or leaf.is_quantized for leaf in leaves):
        raise TypeError("no tensors")
    return leaves


def samples(shape: str, dtype: torch.dtype, rows: int, seed: int) -> dict[str, Tensor]:
    """Generic ones."""
    generator = torch.Generator().manual_seed(seed)
    size = (rows, *SHAPES[shape])

    def draw() -> Tensor:
        wide = torch.randn(size, generator=generator, dtype=torch.float64)
        if dtype.is_complex:
            return torch.complex(wide, wide.flip(0)).to(dtype)
        if dtype is torch.bool:
            return wide > 0
        return wide.to(dtype) if dtype.is_floating_point else (wide.abs() * 3).to(dtype)

    return {
        "s": draw(),
        "o": draw(),
        "k": torch.randint(0, 4, size, generator=generator),
        "b": torch.randn(size, generator=generator) > 0,
        "t": torch.randint(0, 4, (rows,), generator=generator),
    }


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def outputs(text: str, shape: str, dtype: torch.dtype) -> int | None:
    """How many tensors a call gives on generic samples; None where it is no function of them."""
    before = torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = [called(text, samples(shape, dtype, rows, 1)) for rows in (9, 9, 14)]
    except Exception:  # noqa: BLE001 - it takes no such arguments
        return None
    if not torch.equal(before, torch.get_rng_state()) or len(made[0]) != len(made[2]):
        return None
    first, second, _ = made
    if not all(map(_same, first, second)) or any(leaf.numel() == 0 or leaf.numel() > 4000 for leaf in first):
        return None
    return min(len(first), 3)


#: Of one name at most so many calls are kept, for each shape of samples.
KEPT = {"matrix": 5, "vector": 2, "square": 1}
TABLE = Path(__file__).with_name("calls.txt")


def find() -> list[tuple[str, str]]:
    """(shape of a sample, text) of the calls that are functions of float64 or of whole samples."""
    found: list[tuple[str, str]] = []
    counts: Counter[tuple[str, str]] = Counter()
    for text in spelled():
        name = text.partition("(")[0] if not text.startswith("s.clone()") else text.split("(")[1]
        for shape in ("matrix", "vector", "square"):
            most = KEPT[shape] if not text.startswith("s.clone()") else 1
            if counts[shape, name] >= most or (shape == "square" and counts["matrix", name]):
                continue
            if any(outputs(text, shape, dtype) is not None for dtype in (torch.float64, torch.int64)):
                counts[shape, name] += 1
                found.append((shape, text))
    return found


@cache
def calls() -> tuple[tuple[str, str], ...]:
    """(shape of a sample, text) of every call in the table."""
    pairs = (line.split(" ", 1) for line in TABLE.read_text().splitlines())
    return tuple((shape, text) for shape, text in pairs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    TABLE.write_text("".join(f"{shape} {text}\n" for shape, text in find()))
