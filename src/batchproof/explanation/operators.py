"""What is known of operators by name: which are linear, which rank, which pair samples, and what to call them."""

from __future__ import annotations

from batchproof.derive import Op

LINEAR = frozenset(
    """_to view _unsafe_view reshape unsqueeze squeeze permute transpose t expand clone detach alias lift_fresh
_to_copy to select slice diagonal unbind split stack cat neg sum mean flip copy contiguous index gather index_select
positive lift_fresh real movedim as_strided conj diagonal diag""".split()
)
ADDS = frozenset("add sub rsub".split())
DIVIDES = frozenset("div true_divide floor_divide".split())
#: Guards against a division by zero and the like: what passes through is what came in.
GUARDS = frozenset("clamp clamp_min clamp_max maximum minimum nan_to_num where isnan eq ne gt lt ge le".split())
#: Linear on either side of a bend: what they do shows only where a batch comes to the other side.
PIECEWISE = frozenset(
    "abs relu clamp clamp_min clamp_max maximum minimum where nan_to_num threshold sign round".split()
)
ORDERS = frozenset(
    """sort argsort topk kthvalue median nanmedian mode cumsum cumprod cummax cummin logcumsumexp searchsorted
bucketize unique unique_dim _unique2 unique_consecutive quantile nanquantile flip roll diff argmax argmin msort
rank_data""".split()
)
PAIRS = frozenset("mm bmm matmul addmm baddbmm cdist _cdist_forward _euclidean_dist pdist _pdist_forward dot".split())
COLUMNS_BY_THE_WAY = frozenset("mm addmm bmm select slice index index_select split".split())
#: How a column is asked for.
MAKES_COLUMNS = frozenset("unsqueeze view _unsafe_view reshape expand".split())
_WORDS = {
    "sqrt": "the square root", "rsqrt": "the inverse square root", "log": "the logarithm", "log10": "the logarithm",
    "log2": "the logarithm", "log1p": "the logarithm", "exp": "the exponential", "expm1": "the exponential",
    "pow": "a power", "square": "the square", "reciprocal": "the reciprocal", "abs": "the absolute value",
    "mul": "a product", "clamp": "a limit", "sigmoid": "the sigmoid", "tanh": "the tanh", "relu": "the positive part",
    "maximum": "the larger", "minimum": "the smaller", "max": "the largest", "min": "the smallest",
    "amax": "the largest", "amin": "the smallest", "div": "a ratio", "acos": "the arc cosine", "atanh": "the arc tanh",
    "linalg_vector_norm": "the norm", "prod": "the product", "norm": "the norm",
    "round": "a rounding", "exp2": "a power", "power": "a power",
}  # fmt: skip


def word_of(op: Op, name: str) -> str:
    """An operation as a reader calls it: ``the square root``, ``a power``."""
    if name == "pow" and len(op.args) > 1:
        return {0.5: "the square root", 2: "the square", -1: "the reciprocal"}.get(op.args[1], "a power")
    spoken = name.strip("_").removesuffix("_forward")
    return _WORDS.get(name) or (spoken if _stands_in(op.site.text, spoken) else "a function that is not linear")


def word_for(name: str) -> str:
    """A function by the name that a user calls it: ``the square root``, ``hypot``."""
    return _WORDS.get(name, name)


def _stands_in(line: str, name: str) -> bool:
    """Whether a reader finds a name in their line: many that torch uses inside are none that anybody wrote."""
    return name.replace("_", "") in line.lower().replace("_", "")


def ranks(name: str) -> str:
    """What an operation does that needs the samples' order."""
    spoken = name.strip("_").rstrip("2")
    verb = "runs through" if name.startswith(("cum", "logcum", "diff", "roll", "flip")) else "ranks"
    return f"{spoken} {verb} the samples of one batch, and no sum over samples holds that"
