"""Why a sample's output depends on what is not the sample: read off the operation with which the difference begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from batchproof.explanation.rows.locate import Beginning
from batchproof.explanation.rows.memory import Memory
from batchproof.explanation.rows.perturbations import TrialName

#: torch's operators, as they are recorded, by what they do with the dimensions of their input.
_MEANS = ("mean", "sum", "var", "std", "var_mean", "linalg_vector_norm", "norm", "logsumexp", "cumsum", "div", "mul")
_EXTREMES = ("amax", "amin", "max", "min", "topk", "sort", "argmax", "aminmax", "clamp_max", "maximum")
_ATTENTION = (
    "_softmax", "bmm", "baddbmm", "mm", "addmm", "matmul", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable",
    "_native_multi_head_attention", "einsum",
)  # fmt: skip
_PICKS = ("select", "slice", "index", "gather", "index_select", "embedding")
_NORMS = (
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "native_group_norm",
    "cudnn_batch_norm", "_batch_norm_with_update", "native_layer_norm", "_native_batch_norm_legit_functional",
    "_batch_norm_no_update",
)  # fmt: skip
_CONVOLUTIONS = ("convolution", "mkldnn_rnn_layer", "lstm", "gru", "_thnn_fused_lstm_cell", "constant_pad_nd", "unfold")
#: Modules whose positions reach the ones beside them, by whatever operations.
_NEIGHBOURLY = ("Conv", "LSTM", "GRU", "RNN")
_TRANSFORMS = ("_fft_r2c", "_fft_c2c", "_fft_c2r", "fft_fft", "fft_fftn")
_ROUTES = ("moe", "expert", "router", "switch", "gate")
_COUPLED: tuple[TrialName, ...] = ("alone", "neighbours", "order", "size", "repeat", "training")


@dataclass(frozen=True)
class RowCause:
    """What happens, and what to do instead."""

    what: str
    remedy: str


POOLED = RowCause(
    "it takes a mean over all positions, those of padding too",
    "multiply by the mask, and divide by its sum",
)
LARGEST = RowCause(
    "it takes the largest of all positions, those of padding too",
    "fill padding with -inf before it, by the mask",
)
UNMASKED = RowCause(
    "its attention looks at padding",
    "pass the mask to the attention: -inf before the softmax, or attn_mask=",
)
NUMBERED = RowCause(
    "positions are counted from the padding on, not from a sample's first real one",
    "number them by the mask: (mask.cumsum(1) - 1).clamp(min=0), or take position_ids",
)
END = RowCause(
    "it takes the position at the end of the row, which is padding in a shorter sample",
    "take each sample's own last position: mask.sum(1) - 1 where padding is on the right",
)
NORMALISED = RowCause(
    "it normalises over positions, those of padding too",
    "normalise within a position (LayerNorm), or leave padding out of the statistics by the mask",
)
SEEPS = RowCause(
    "padding reaches real positions beside it",
    "set padding to 0 by the mask before each such layer, or pack the sequences (pack_padded_sequence)",
)
MIXED = RowCause(
    "its Fourier transform runs over all positions, those of padding too",
    "no padding: batches of samples of one length, or all of them padded to the length that it was trained at",
)
CROWDED = RowCause(
    "an expert takes no more than a number of tokens of a row, and padding before a sample takes their places",
    "leave padding out of the count by the mask, or pad on the right",
)
PADDED = RowCause("padding reaches it", "let the mask keep padding out")
PACKED = RowCause(
    "its attention looks at the samples packed beside it",
    "give a mask with a block for each sample, or flash attention's cu_seqlens",
)
PACKED_SEEPS = RowCause(
    "what is packed before a sample reaches it",
    "start again at the first position of each sample, or give one sample in a row",
)
CAPACITY = RowCause(
    "an expert takes up to its capacity of tokens from a batch, so a token can be dropped because of others",
    "no capacity limit in evaluation (capacity_factor, or dropless routing)",
)
BATCH_MEAN = RowCause(
    "it takes a mean over the samples of the batch",
    "take it within a sample: mind the dim argument",
)
BATCH_EXTREME = RowCause(
    "it takes the largest or smallest number of the batch",
    "take it within a sample: mind the dim argument",
)
BATCH_SCALE = RowCause(
    "it takes the scale of its 8 bits from all samples of the batch",
    "static quantisation, or a scale for each sample or token",
)
BATCH_NORM = RowCause(
    "it normalises each sample by the mean and variance of its batch",
    "score in eval mode; to train exactly at any batch size: GroupNorm, LayerNorm, or frozen statistics",
)
BATCH_SOFTMAX = RowCause(
    "its softmax runs over the samples of the batch",
    "take it within a sample: mind the dim argument",
)
BATCH_ATTENTION = RowCause(
    "its attention looks at the other samples of the batch",
    "keep the samples apart: batch_first=, or another dim",
)
BATCH_SIZE = RowCause(
    "the number of samples in the batch enters it",
    "put a fixed number in its place",
)
COUPLED = RowCause(
    "what it gives for one sample moves with the other samples of the batch",
    "work within a sample: mind the dim argument",
)


def cause_of(trial: TrialName, beginning: Beginning, kind: str) -> RowCause:
    """Why a trial changes a sample's output.

    Args:
        trial: what was changed.
        beginning: the operation with which the difference begins.
        kind: the class of the module that it belongs to.
    """
    op = operation(beginning)
    if trial in _COUPLED:
        return _of_batch(op, beginning, kind)
    if trial == "packing":
        return PACKED if op in _ATTENTION else PACKED_SEEPS
    if trial == "padding left" and op in ("add", "mul", "embedding", "sub", "cat"):
        return NUMBERED
    return _of_padding(op, kind)


def reads_first_position(beginning: Beginning) -> bool:
    """Whether the operation takes the first of all positions and no other."""
    if operation(beginning) not in ("select", "slice"):
        return False
    taken = beginning.step.results[0].flatten()
    return any(
        size > 1 and torch.equal(tensor.select(dim, 0).flatten(), taken)
        for tensor in beginning.taken
        for dim, size in enumerate(tensor.shape)
    )


def operation(beginning: Beginning) -> str:
    """An operator's name: ``"softmax"`` of ``"aten._softmax"``."""
    return beginning.step.op.removeprefix("aten.").rstrip("_")


def _of_padding(op: str, kind: str) -> RowCause:
    groups: list[tuple[Callable[[str], bool], RowCause]] = [
        (lambda op: op in _TRANSFORMS, MIXED),
        (lambda op: op == "cumsum" and any(word in kind.lower() for word in _ROUTES), CROWDED),
        (lambda op: op in _EXTREMES or "max_pool" in op, LARGEST),
        (lambda op: op in _ATTENTION or "Attention" in kind, UNMASKED),
        (lambda op: op in _MEANS or "avg_pool" in op, POOLED),
        (lambda op: op in _NORMS, NORMALISED),
        (lambda op: op in _PICKS, END),
        (lambda op: op in _CONVOLUTIONS or kind.startswith(_NEIGHBOURLY), SEEPS),
    ]
    return next((cause for is_it, cause in groups if is_it(op)), PADDED)


def _of_batch(op: str, beginning: Beginning, kind: str) -> RowCause:
    named = f"{beginning.step.module}.{kind}".lower()
    if any(word in named for word in _ROUTES) and op not in _NORMS:
        return CAPACITY
    if op.startswith("quantize") and "dynamic" in op:
        return BATCH_SCALE
    groups = [
        (_NORMS, BATCH_NORM), (_EXTREMES, BATCH_EXTREME), (("_softmax", "_log_softmax"), BATCH_SOFTMAX),
        (_ATTENTION, BATCH_ATTENTION), (("div", "mul"), BATCH_SIZE), (_MEANS, BATCH_MEAN),
    ]  # fmt: skip
    return next((cause for ops, cause in groups if op in ops), COUPLED)


def of_memory(memory: Memory) -> RowCause:
    """What a model remembers from one call to the next."""
    name = (memory.thing or "").rpartition(".")[2]
    of_kind = {"buffer": f"its buffer {name}", "attribute": f"its attribute {name}", "variable": f"the variable {name}"}
    what = "something that it holds" if not name else of_kind[memory.kind]
    what = f"a call changes {what}, and the next call reads it"
    return RowCause(what, "change it in training only: if self.training:")
