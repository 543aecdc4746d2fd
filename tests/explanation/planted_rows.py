"""Models with one fault each, by which a sample's answer depends on what is not the sample, and their correct twins.

Each class has the fault in a line that ends with ``# the fault``, and `is_right` switches it to the correct one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, VOCABULARY, CLASSES = 16, 50, 5


def tokens(lengths: tuple[int, ...] = (12, 7, 9, 5, 10, 12), left: bool = False) -> dict[str, Tensor]:
    """Token ids and a mask, padded on the right or on the left."""
    generator = torch.Generator().manual_seed(1)
    width = max(lengths)
    ids = torch.randint(5, VOCABULARY, (len(lengths), width), generator=generator)
    there = torch.arange(width) < torch.tensor(lengths)[:, None]
    there = there.flip(1) if left else there
    return {"input_ids": ids * there, "attention_mask": there.long()}


def frames(lengths: tuple[int, ...] = (12, 7, 9, 5, 10, 12)) -> dict[str, Tensor]:
    """Vectors with a mask."""
    generator = torch.Generator().manual_seed(2)
    mask = tokens(lengths)["attention_mask"]
    return {"x": torch.randn(*mask.shape, WIDTH, generator=generator) * mask[..., None], "mask": mask.bool()}


def rows(n: int = 8) -> dict[str, Tensor]:
    """Vectors without positions."""
    return {"x": torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(3))}


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real positions: (B, T, D) to (B, D)."""
    weights = mask[..., None].to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1)


class Planted(nn.Module):
    """What all of them have: a table of embeddings, and a layer before and after."""

    def __init__(self, is_right: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.is_right = is_right
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)


class MeanPooling(Planted):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.first(self.embed(input_ids)).tanh()
        if self.is_right:
            return self.head(masked_mean(x, attention_mask))
        return self.head(x.mean(1))  # the fault


class SumOverTotal(Planted):
    """The sum of the real positions, divided by how many there are with padding."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.first(self.embed(input_ids)).tanh() * attention_mask[..., None]
        count = attention_mask.sum(1, keepdim=True) if self.is_right else x.shape[1]
        return self.head(x.sum(1) / count)  # the fault


class MaxPooling(Planted):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.first(self.embed(input_ids)).tanh()
        if self.is_right:
            x = x.masked_fill(attention_mask[..., None] == 0, -torch.inf)
        return self.head(x.amax(1))  # the fault


class LastToken(Planted):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.first(self.embed(input_ids)).tanh()
        if self.is_right:
            positions = torch.arange(x.shape[1]) * attention_mask
            return self.head(x[torch.arange(len(x)), positions.argmax(1)])
        return self.head(x[:, -1])  # the fault


class SelfAttention(nn.Module):
    def __init__(self, is_right: bool) -> None:
        super().__init__()
        self.is_right = is_right
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 4
        if self.is_right:
            scores = scores.masked_fill(~mask[:, None, :].bool(), torch.finfo(x.dtype).min)
        weights = scores.softmax(-1)  # the fault
        return x + weights @ v


class Unmasked(Planted):
    """Attention that is not told of the mask, in the second of two blocks."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.blocks = nn.ModuleList([SelfAttention(True), SelfAttention(is_right)])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x, attention_mask)
        return self.head(masked_mean(x, attention_mask))


class FusedAttention(Planted):
    """The same by torch's own kernel, over heads."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        heads = self.first(x).unflatten(-1, (4, 4)).transpose(1, 2)
        allowed = attention_mask.bool()[:, None, None, :] if self.is_right else None
        mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=allowed)  # the fault
        return self.head(masked_mean(mixed.transpose(1, 2).flatten(2), attention_mask))


class InvertedMask(Planted):
    """MultiheadAttention's key_padding_mask is True where there is padding; the tokenizer's mask is 1 where not."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        hidden = attention_mask == 0
        if not self.is_right:
            hidden = ~hidden & (torch.arange(x.shape[1]) > 0)  # one stays, or the softmax would give NaN
        x = x + self.attention(x, x, x, key_padding_mask=hidden, need_weights=False)[0]  # the fault
        return self.head(masked_mean(x, attention_mask))


class TorchEncoder(Planted):
    """nn.TransformerEncoder, told of the padding or not; token-level output."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, src: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        hidden = src_key_padding_mask if self.is_right else None
        return self.head(self.encoder(self.first(src), src_key_padding_mask=hidden))  # the fault


class Positions(Planted):
    """Positions counted from the start of the row; given samples are padded on the left."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.position = nn.Embedding(256, WIDTH)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        at = torch.arange(input_ids.shape[1])[None]
        if self.is_right:
            at = (attention_mask.cumsum(1) - 1).clamp(min=0)
        x = self.embed(input_ids) + self.position(at)  # the fault
        return self.head(masked_mean(self.first(x).tanh(), attention_mask))


class OverPositions(Planted):
    """A normalisation whose statistics run over positions; the twin's run within a position."""

    def __init__(self, is_right: bool, norm: nn.Module) -> None:
        super().__init__(is_right)
        self.norm = nn.LayerNorm(WIDTH) if is_right else norm

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        x = self.norm(x) if self.is_right else self.norm(x.transpose(1, 2)).transpose(1, 2)  # the fault
        return self.head(masked_mean(x, attention_mask))


class BatchStatistics(Planted):
    """BatchNorm that uses the batch's statistics in eval mode too; the twin keeps running ones."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.norm = nn.BatchNorm1d(WIDTH, track_running_stats=is_right)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x)).tanh())  # the fault


class FlatBatchStatistics(Planted):
    """The same over all positions of all samples."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.norm = nn.BatchNorm1d(WIDTH, track_running_stats=is_right)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        flat = self.first(x).flatten(0, 1)
        return self.head(masked_mean(self.norm(flat).view_as(x), mask))  # the fault


class LeftInTraining(Planted):
    """A model in eval mode whose one BatchNorm sets itself to training mode."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.norm.train(self.training or not self.is_right)
        return self.head(self.norm(self.first(x)).tanh())  # the fault


class Quantised(Planted):
    """A scale for 8 bits from the largest number of the batch; the twin has one for each sample."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        largest = x.abs().amax(1, keepdim=True) if self.is_right else x.abs().max()  # the fault
        return self.head(x / largest)


class Centred(Planted):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        centre = x.mean(1, keepdim=True) if self.is_right else x.mean(0)  # the fault
        return self.head(x - centre)


class BySize(Planted):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        return self.head(x / (8 if self.is_right else len(x)))  # the fault


class SoftmaxOverBatch(Planted):
    def forward(self, x: Tensor) -> Tensor:
        scores = self.head(self.first(x).tanh())
        return scores.softmax(1 if self.is_right else 0)  # the fault


class SecondIsBatch(Planted):
    """MultiheadAttention takes (T, B, D) by default: given (B, T, D) it attends over samples."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=is_right)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(self.attention(x, x, x, need_weights=False)[0])  # the fault


class Experts(Planted):
    """Each token goes to one expert; an expert that takes only so many of a batch drops the rest."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.moe = TopOne(is_right)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        return self.head(masked_mean(x + self.moe(x, attention_mask), attention_mask))


class TopOne(nn.Module):
    def __init__(self, is_right: bool, experts: int = 2, capacity: int = 8) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, experts)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(experts))
        self.capacity = None if is_right else capacity

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        chosen = self.gate(flat).argmax(1).masked_fill(mask.flatten() == 0, -1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            mine = (chosen == number).nonzero().flatten()
            mine = mine[: self.capacity]  # the fault
            out = out.index_copy(0, mine, expert(flat[mine]))
        return out.view_as(x)


class MaskedExperts(nn.Module):
    """The same with dense masks, as Switch transformers do it: a running count over the tokens of the batch."""

    def __init__(self, is_right: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.is_right = is_right
        self.router = nn.Linear(WIDTH, 2)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        chosen = nn.functional.one_hot(self.router(x).argmax(-1), 2) * mask[..., None]
        if not self.is_right:
            before = chosen.flatten(0, 1).cumsum(0).view_as(chosen)  # the fault
            chosen = chosen * (before <= 8)
        return sum(expert(x) * chosen[..., n, None] for n, expert in enumerate(self.experts))


class Segments(Planted):
    """Causal attention over a row that may hold several samples, told apart by ``segment_ids``."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.attention = SegmentAttention(is_right)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        return self.head(self.attention(self.embed(input_ids), attention_mask.bool(), segment_ids))


class SegmentAttention(nn.Module):
    def __init__(self, is_right: bool) -> None:
        super().__init__()
        self.is_right = is_right
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor, mask: Tensor, segment_ids: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        allowed = mask[:, None, :] & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        if segment_ids is not None and self.is_right:
            allowed = allowed & (segment_ids[:, :, None] == segment_ids[:, None, :])
        scores = (q @ k.transpose(1, 2) / 4).masked_fill(~allowed, -1e9)
        weights = scores.softmax(-1)  # the fault
        return x + weights @ v


class PackedPositions(Planted):
    """The same told apart by ``position_ids`` that begin anew."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.position = nn.Embedding(256, WIDTH)
        self.attention = SegmentAttention(is_right)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Tensor:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        segments = None
        if position_ids is None:
            position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        elif attention_mask is None:
            segments = (position_ids == 0).cumsum(1)
        x = self.embed(input_ids) + self.position(position_ids)
        return self.head(self.attention(x, mask.bool(), segments))


class SharedConvolution(Planted):
    """Convolution over a row in which several samples follow each other."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        x = self.embed(input_ids) * attention_mask[..., None]
        padded = nn.functional.pad(x, (0, 0, 2, 0))
        taps = [padded[:, lag : lag + x.shape[1]] for lag in range(3)]
        if self.is_right and segment_ids is not None:
            own = nn.functional.pad(segment_ids, (2, 0), value=-1)
            taps = [tap * (own[:, lag : lag + x.shape[1]] == segment_ids)[..., None] for lag, tap in enumerate(taps)]
        windows = torch.stack(taps, -1)
        return self.head(torch.einsum("btdk,odk->bto", windows, self.conv.weight).tanh())


class MovingAverage(Planted):
    """A buffer that a call writes to, and the next call reads; the twin writes in training only."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.norm = Running(is_right)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x)))


class Running(nn.Module):
    centre: Tensor

    def __init__(self, is_right: bool) -> None:
        super().__init__()
        self.is_right = is_right
        self.register_buffer("centre", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        out = x - self.centre  # the fault
        if self.training or not self.is_right:
            self.centre.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return out


class AttributeMemory(Planted):
    """An attribute that a call sets, and the next call reads."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.previous: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        state = torch.zeros(WIDTH) if self.previous is None else self.previous
        if not self.is_right:
            self.previous = x.detach().mean(0)
            x = x + state  # the fault
        return self.head(x)


class ListMemory(Planted):
    """A list that grows with each call, of which the mean is taken."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        if not self.is_right:
            bank = torch.cat([*self.seen, torch.zeros(1, WIDTH)])
            self.seen.append(x.detach())
            x = x + bank.mean(0)  # the fault
        return self.head(x)


class Convolution(Planted):
    """Same-padded convolution over embeddings of padding; the twin sets them to 0."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        if self.is_right:
            x = x * attention_mask[..., None]
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)  # the fault
        return self.head(masked_mean(x.tanh(), attention_mask))


class Recurrent(Planted):
    """A bidirectional LSTM that runs over padding; the twin packs the sequences."""

    def __init__(self, is_right: bool) -> None:
        super().__init__(is_right)
        self.lstm = nn.LSTM(WIDTH, WIDTH // 2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if self.is_right:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            _, (last, _) = self.lstm(packed)
        else:
            _, (last, _) = self.lstm(x)  # the fault
        return self.head(torch.cat(list(last), 1))


class NamedOutputs(Planted):
    """Several outputs in a dict, of which one is wrong; others are token-level."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
        x = self.first(self.embed(input_ids)).tanh()
        pooled = masked_mean(x, attention_mask)
        if not self.is_right:
            pooled = x.mean(1)  # the fault
        return {"hidden": x, "logits": self.head(pooled), "layers": (x, pooled)}


def padded_frames(lengths: tuple[int, ...] = (12, 7, 9, 5, 10, 12)) -> dict[str, Tensor]:
    """Vectors with torch's kind of mask: True where there is padding."""
    made = frames(lengths)
    return {"src": made["x"], "src_key_padding_mask": ~made["mask"]}


def measured_frames() -> dict[str, Tensor]:
    """Vectors with their lengths."""
    lengths = (12, 7, 9, 5, 10, 12)
    return {"x": frames(lengths)["x"], "lengths": torch.tensor(lengths)}


def wide_rows() -> dict[str, Tensor]:
    """Sequences of one length without a mask."""
    return {"x": torch.randn(6, 7, WIDTH, generator=torch.Generator().manual_seed(4))}


@dataclass(frozen=True)
class Plant:
    """A fault, and how explain is to name it.

    Attributes:
        model: Makes the model: right or wrong.
        batch: Makes what it is tried on.
        verdict: The code of the report.
        cause: Part of what is said of it.
        module: The module that has it.
    """

    model: Callable[[bool], nn.Module]
    batch: Callable[[], dict[str, Tensor]]
    verdict: str
    cause: str
    module: str = "the model itself"


PLANTS = {
    "mean pooling": Plant(MeanPooling, tokens, "padding", "a mean over all positions"),
    "sum over total": Plant(SumOverTotal, tokens, "padding", "a mean over all positions"),
    "max pooling": Plant(MaxPooling, tokens, "padding", "the largest of all positions"),
    "last token": Plant(LastToken, tokens, "padding", "the position at the end of the row"),
    "unmasked attention": Plant(Unmasked, tokens, "padding", "attention looks at padding", "blocks.1"),
    "fused attention": Plant(FusedAttention, tokens, "padding", "attention looks at padding"),
    "inverted mask": Plant(InvertedMask, tokens, "padding", "attention looks at padding", "attention"),
    "torch encoder": Plant(
        TorchEncoder, padded_frames, "padding", "attention looks at padding", "encoder.layers.0.self_attn"
    ),
    "positions": Plant(lambda r: Positions(r), lambda: tokens(left=True), "padding", "counted from the padding on"),
    "group norm": Plant(
        lambda r: OverPositions(r, nn.GroupNorm(4, WIDTH)), tokens, "padding", "normalises over positions", "norm"
    ),
    "instance norm": Plant(
        lambda r: OverPositions(r, nn.InstanceNorm1d(WIDTH)), tokens, "padding", "normalises over positions", "norm"
    ),
    "batch statistics": Plant(BatchStatistics, rows, "couples", "mean and variance of its batch", "norm"),
    "flat batch statistics": Plant(FlatBatchStatistics, frames, "couples", "mean and variance of its batch", "norm"),
    "left in training": Plant(LeftInTraining, rows, "couples", "mean and variance of its batch", "norm"),
    "quantised": Plant(Quantised, rows, "couples", "largest or smallest number of the batch"),
    "centred": Plant(Centred, rows, "couples", "a mean over the samples"),
    "by size": Plant(BySize, rows, "couples", "the number of samples in the batch"),
    "softmax over batch": Plant(SoftmaxOverBatch, rows, "couples", "softmax runs over the samples"),
    "second is batch": Plant(SecondIsBatch, wide_rows, "couples", "attention looks at the other samples", "attention"),
    "experts": Plant(Experts, tokens, "couples", "an expert takes up to its capacity", "moe"),
    "masked experts": Plant(MaskedExperts, frames, "couples", "an expert takes up to its capacity"),
    "segments": Plant(Segments, tokens, "packing", "attention looks at the samples packed", "attention"),
    "packed positions": Plant(PackedPositions, tokens, "packing", "attention looks at the samples packed", "attention"),
    "moving average": Plant(MovingAverage, rows, "state", "its buffer centre", "norm"),
    "attribute": Plant(AttributeMemory, rows, "state", "its attribute previous"),
    "list": Plant(ListMemory, rows, "state", "its attribute seen"),
    "convolution": Plant(Convolution, tokens, "padding", "padding reaches real positions", "conv"),
    "recurrent": Plant(Recurrent, measured_frames, "padding", "padding reaches real positions", "lstm"),
    "named outputs": Plant(NamedOutputs, tokens, "padding", "a mean over all positions"),
}
