"""No false fault and no false "safe": answers that are discrete, narrow, few, flat, strided, empty or not numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.explanation.planted_rows import Experts, frames, masked_mean, rows, tokens, wide_rows
from torch import Tensor, nn

from batchproof import Explanation, explain
from batchproof.explanation.rows.aligned import CountedAxis, axes_of, distance
from batchproof.explanation.rows.measure import is_rounding, is_unstable
from batchproof.explanation.rows.precision import in_double
from batchproof.explanation.rows.sequences import RowsCall, Spot
from batchproof.explanation.samples import gather
from batchproof.ground.held_state import held_still, read_held


class OfRows(nn.Module):
    """A function of rows with two layers to use."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 5)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class OfFrames(OfRows):
    def forward(self, x: Tensor, mask: Tensor) -> Any:  # type: ignore[override]
        return self.function(self, x, mask)


def explained(model: nn.Module, batch: Any) -> Explanation:
    return explain(model.eval(), batch)


def state_of(found: Explanation, name: str) -> str:
    return next(trial.state for trial in found.trials if trial.name == name)


def routed(m: Any, x: Tensor) -> Tensor:
    scores = m.a(x)
    return m.b(scores * nn.functional.one_hot(scores.argmax(1), 16))


def top_three(m: Any, x: Tensor) -> Tensor:
    scores = m.a(x)
    values, at = scores.topk(3, 1)
    return m.b(torch.zeros_like(scores).scatter(1, at, values))


def by_way_of_numpy(m: Any, x: Tensor) -> Tensor:
    return m.b(torch.from_numpy(m.a(x).detach().numpy().astype(np.float32)).to(x.dtype))


TABLE = torch.zeros(64, 16)
MIXER = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))


def into_float32(m: Any, x: Tensor) -> Tensor:
    table = torch.zeros_like(TABLE[: len(x)])
    table[:] = m.a(x)
    return m.b((table @ MIXER).to(x.dtype))


def under_autocast(m: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.b(m.a(x)).float()


SAFE_ROWS: dict[str, Callable[[Any, Tensor], Any]] = {
    "rounded": lambda m, x: (m.a(x) * 1e6).round() / 1e6,
    "coarsely rounded": lambda m, x: m.b((m.a(x) * 8).round() / 8),
    "routed": routed,
    "top three": top_three,
    "by way of numpy": by_way_of_numpy,
    "into float32": into_float32,
    "under autocast": under_autocast,
    "zeros": lambda _, x: x * 0,
    "ones": lambda _, x: x * 0 + 1,
    "a constant and little more": lambda m, x: 1e4 + m.b(x) * 1e-3,
    "classes": lambda m, x: m.b(x).argmax(1),
    "yes or no": lambda m, x: m.b(x) > 0,
    "huge": lambda m, x: m.b(x.cumsum(1) * 1e3).exp().log1p(),
    "one of them empty": lambda m, x: (m.b(x), x[:, :0]),
    "not a number": lambda m, x: m.b(x) / 0 * 0,
}


@pytest.mark.parametrize("name", SAFE_ROWS)
def test_no_false_fault_of_rows(name: str) -> None:
    found = explained(OfRows(SAFE_ROWS[name]), rows(48))
    assert (found.kind, found.is_safe) == ("model", True)


COUPLED_ROWS: dict[str, Callable[[Any, Tensor], Any]] = {
    "beside large ones only": lambda m, x: m.b(x / x.abs().max().clamp(min=4.0)),
    "by a ten thousandth": lambda m, x: m.b(m.a(x) + 1e-4 * x.mean(0)),
    "by a millionth": lambda m, x: m.b(m.a(x) + 1e-6 * x.mean(0)),
    "in single precision": lambda m, x: m.b((x.float() - x.float().mean(0)).to(x.dtype)),
    "one row only": lambda m, x: torch.cat([m.b(x)[:-1], m.b(x)[-1:] + m.b(x)[:1]]),
    "by place": lambda m, x: m.b(x) + 1e-3 * torch.arange(len(x))[:, None],
    "all pairs": lambda m, x: m.a(x) @ m.a(x).T,
    "from twenty on": lambda m, x: m.b(x) + (1.0 if len(x) >= 20 else 0.0),
}


@pytest.mark.parametrize("name", COUPLED_ROWS)
def test_no_false_safe_of_rows(name: str) -> None:
    found = explained(OfRows(COUPLED_ROWS[name]), rows(48))
    assert (found.kind, found.is_safe, found.verdict) == ("model", False, "couples")


def with_time_first(m: Any, x: Tensor, mask: Tensor) -> Tensor:
    mixed = x.transpose(0, 1)
    mixed = m.attention(mixed, mixed, mixed, key_padding_mask=~mask, need_weights=False)[0]
    return m.b(mixed).transpose(0, 1)


def sorted_by_length(m: Any, x: Tensor, mask: Tensor) -> Tensor:
    order = mask.sum(1).argsort(descending=True)
    return m.b(masked_mean(x[order], mask[order]))[order.argsort()]


def cut_to_the_longest(m: Any, x: Tensor, mask: Tensor) -> Tensor:
    longest = int(mask.sum(1).max())
    return m.b(masked_mean(x[:, :longest], mask[:, :longest]))


SAFE_FRAMES: dict[str, Callable[..., Any]] = {
    "time first inside": with_time_first,
    "time first outside": lambda m, x, mask: m.b(x).transpose(0, 1),
    "laid end to end": lambda m, x, mask: m.b(x).flatten(0, 1),
    "not a number in padding": lambda m, x, mask: m.a(x).masked_fill(~mask[..., None], torch.nan),
    "infinite in padding": lambda m, x, mask: m.b(x).masked_fill(~mask[..., None], -torch.inf),
    "one number each": lambda m, x, mask: masked_mean(x, mask).sum(1),
    "sorted and put back": sorted_by_length,
    "cut to the longest": cut_to_the_longest,
}


@pytest.mark.parametrize("lengths", [(12, 7, 9, 5, 10, 12), (16, 7, 9, 5, 10, 12), (4, 2, 3, 4)])
@pytest.mark.parametrize("name", SAFE_FRAMES)
def test_no_false_fault_of_frames(name: str, lengths: tuple[int, ...]) -> None:
    """Also where there are as many positions as features, or as rows."""
    model = OfFrames(SAFE_FRAMES[name], attention=nn.MultiheadAttention(16, 2))
    found = explained(model, frames(lengths))
    assert (found.kind, found.is_safe) == ("model", True)
    assert state_of(found, "alone") in ("same", "rounding")
    assert state_of(found, "padding right") in ("same", "rounding")


def test_frames_of_two_positions_each_are_laid_beside_themselves() -> None:
    strided = nn.Conv1d(16, 16, 2, stride=2)

    def halved(m: Any, x: Tensor, mask: Tensor) -> Tensor:
        return m.b(m.conv((x * mask[..., None]).transpose(1, 2)).transpose(1, 2))

    batch = frames((13, 7, 9, 5, 11, 13))
    found = explained(OfFrames(halved, conv=strided), batch)
    assert found.is_safe
    assert (state_of(found, "neighbours"), state_of(found, "alone")) == ("same", "rounding")
    found = explained(OfFrames(lambda m, x, k: halved(m, x, k) - halved(m, x, k).mean(0), conv=strided), batch)
    assert (found.is_safe, found.verdict) == (False, "couples")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_last_bits_of_experts_in_half_precision_are_no_coupling(dtype: torch.dtype) -> None:
    assert explained(Experts(True).to(dtype), tokens()).is_safe is True
    assert explained(Experts(False).to(dtype), tokens()).is_safe is False


def test_an_exact_tie_is_not_told_from_a_fault() -> None:
    def tied(m: Any, x: Tensor) -> Tensor:
        hidden = m.a(x)
        scores = torch.stack([(hidden * 1.1).sum(1), hidden.sum(1) * 1.1], 1)
        return m.b(hidden) * (1 + scores.argmax(1))[:, None]

    found = explained(OfRows(tied), rows(64))
    assert (found.is_safe, found.verdict, found.findings) == (None, "unexplained", ())
    assert "one unit in the last place" in found.headline


@pytest.mark.parametrize(("count", "of_right"), [(1, None), (2, True), (3, True)])
def test_few_samples(count: int, of_right: bool | None) -> None:
    right = explained(OfRows(lambda m, x: m.b(x)), rows(count))
    wrong = explained(OfRows(lambda m, x: m.b(x - x.mean(0))), rows(count))
    assert (right.kind, right.is_safe) == ("model", of_right)
    assert wrong.is_safe is (None if count == 1 else False)


def test_of_one_sample_padding_can_be_told() -> None:
    one = {name: value[:1] for name, value in frames().items()}
    assert explained(OfFrames(lambda m, x, mask: m.b(x.mean(1))), one).is_safe is False
    assert explained(OfFrames(lambda m, x, mask: m.b(masked_mean(x, mask))), one).is_safe is None


def test_the_state_of_a_recurrent_network_is_named() -> None:
    def kept(m: Any, x: Tensor) -> Tensor:
        before = getattr(m, "state", None)
        out, state = m.gru(x, before if before is not None and before.shape[1] == len(x) else None)
        m.state = state.detach()
        return m.b(out[:, -1])

    model = OfRows(kept, gru=nn.GRU(16, 16, batch_first=True))
    found = explained(model, wide_rows())
    assert (found.is_safe, found.verdict) == (False, "state")
    assert "its attribute state" in found.findings[0].what
    assert not hasattr(model, "state")


def test_what_is_only_written_is_no_memory() -> None:
    def logged(m: Any, x: Tensor) -> Tensor:
        m.last, m.count = m.a(x), getattr(m, "count", 0) + 1
        return m.b(m.last)

    assert explained(OfRows(logged), rows()).is_safe


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantisation_takes_its_scale_from_the_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5)).eval()
    found = explain(torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8), rows()["x"])
    assert (found.is_safe, found.verdict) == (False, "couples")
    assert "scale of its 8 bits" in found.findings[0].what


def test_padding_on_the_left_is_a_convention_where_nobody_pads_there() -> None:
    def numbered(m: Any, x: Tensor, mask: Tensor) -> Tensor:
        return m.b(masked_mean(x + torch.arange(x.shape[1])[:, None], mask))

    found = explained(OfFrames(numbered), frames())
    assert (found.is_safe, state_of(found, "padding left")) == (True, "convention")
    turned = {name: value.flip(1) for name, value in frames().items()}
    found = explained(OfFrames(numbered), turned)
    assert (found.is_safe, found.verdict, state_of(found, "padding left")) == (False, "padding", "fault")


# ------------------------------------------------------------------ the parts


def test_narrow_numbers_are_wide_meanwhile_and_those_that_are_not_are_noticed() -> None:
    table = torch.zeros(3)
    with in_double(nn.Linear(2, 2)) as narrowing:
        x = torch.ones(3, dtype=torch.float64)
        assert x.float().dtype is torch.float64
        assert x.to(torch.complex64).dtype is torch.complex128
        with torch.inference_mode():
            assert torch.softmax(x, 0, dtype=torch.float32).dtype is torch.float64
        assert narrowing == []
        table.copy_(x)
        assert narrowing == ["aten.copy_.default"]


@pytest.mark.parametrize(
    ("native", "wide", "moved", "moved_wide", "rounding", "unstable"),
    [
        (1e-7, 1e-16, 1e-7, 1e-16, True, False),
        (1.0, 1e-16, 1e-7, 1e-16, True, False),  # an answer that flips
        (1e-7, 1e-7, 1e-7, 1e-16, False, False),  # a small fault
        (1.0, 1.0, 1e-7, 1e-16, False, False),
        (1.5, 1.5, 0.8, 0.8, False, True),
        (1e-6, None, 1e-7, None, True, False),
        (1e-3, None, 1e-7, None, False, False),
        (0.5, None, 0.1, None, True, True),  # is asked first whether it is unstable
        (1e-6, None, None, None, False, False),
    ],
)
def test_rounding_and_faults(
    native: float, wide: float | None, moved: float | None, moved_wide: float | None, rounding: bool, unstable: bool
) -> None:
    assert is_rounding(native, wide, moved, moved_wide) is rounding
    assert is_unstable(native, wide, moved, moved_wide) is unstable


def test_what_counts_neither_rows_nor_positions_evenly() -> None:
    assert axes_of((4, 6, 16), (3, 6, 16), (4, 7, 16), 4, 12) == (
        CountedAxis(1), CountedAxis(is_opaque=True), CountedAxis(),
    )  # fmt: skip
    call = RowsCall(gather(lambda x: x, [torch.zeros(4, 12)], {}, 0), (Spot(0, 0, 12),), 12)
    axes = (CountedAxis(1), CountedAxis(is_opaque=True))
    a, b = torch.zeros(4, 6), torch.ones(4, 6)
    assert distance(a, b, axes, call, call) == 1
    assert distance(a, b, axes, call, replace(call, is_refilled=True)) is None
    assert distance(a, b, axes, call, replace(call, spots=(Spot(0, 2, 10),))) is None


def test_what_a_model_holds_is_put_back() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(2))
            self.seen: list[Tensor] = []
            self.table = {"a": torch.zeros(2)}
            self.generator = torch.Generator().manual_seed(1)

    model = nn.ModuleList([nn.ModuleList([nn.ModuleList([nn.ModuleList([Deep()])])])])
    inner = model[0][0][0][0]  # type: ignore[index]
    with held_still(model) as held:
        inner.mean.add_(1)
        inner.seen.append(inner.mean)
        inner.table["a"].add_(1)
        inner.table = {}
        torch.rand(1, generator=inner.generator)
        inner.new = 1
        path = "0.0.0.0"
        changed = {thing.full_name for thing in held if thing.has_changed()}
        assert changed == {f"{path}.{name}" for name in ("mean", "seen", "table", "generator", "new")}
    assert not hasattr(inner, "new")
    assert (inner.seen, inner.mean.sum(), inner.table["a"].sum()) == ([], 0, 0)
    assert not any(thing.has_changed() for thing in read_held(model))
