"""Outputs with an entry for every second position, or every fourth: frames of sound, pooled tokens."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

import batchproof
from batchproof.explanation.rows.aligned import CountedAxis, axes_of
from batchproof.explanation.rows.sequences import Spot

WIDTH, LENGTHS = 48, (48, 30, 40, 24)


class Frames(nn.Module):
    """Sound to frames: a convolution with a stride, a norm, another convolution."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv1d(1, 8, 6, 4), norm, nn.Conv1d(8, 8, 3, 2)

    def forward(self, waves: Tensor, mask: Tensor) -> Tensor:
        """(B, T) to (B, frames, 8)."""
        found = self.norm(self.conv1((waves * mask)[:, None]).transpose(1, 2)).transpose(1, 2)
        return self.conv2(found.relu()).transpose(1, 2)


class OverTime(nn.Module):
    """Each channel by its mean and variance over all frames."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, frames, C), normalised."""
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)


def sounds() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
    return torch.randn(len(LENGTHS), WIDTH), mask.long()


def states(model: nn.Module) -> dict[str, str]:
    waves, mask = sounds()
    found = batchproof.explain(model.eval(), waves, mask, over=["batch", "padding"])
    return {trial.name: trial.state for trial in found.trials}


def test_frames_of_a_sample_are_its_own() -> None:
    torch.manual_seed(0)
    found = states(Frames(nn.LayerNorm(8)))
    assert {found[name] for name in ("alone", "padding right", "fixed length", "padding content")} <= {
        "same", "rounding",
    }  # fmt: skip


def test_a_norm_over_time_sees_padding() -> None:
    torch.manual_seed(0)
    waves, mask = sounds()
    found = batchproof.explain(Frames(OverTime()).eval(), waves, mask, over=["padding"])
    by_name = {trial.name: trial for trial in found.trials}
    assert by_name["padding right"].state == by_name["fixed length"].state == "fault"
    assert by_name["padding right"].kind == "OverTime"


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(6, 4, 0), (4, 4, 0), (10, 5, 0), (3, 2, 1), (8, 2, 0)])
def test_frames_that_are_compared_hold_no_padding(kernel: int, stride: int, padding: int) -> None:
    """Against a convolution that says itself which of its frames a NaN in the padding reaches."""
    conv = nn.Conv1d(1, 1, kernel, stride, padding)
    width, reach = 40, 40
    sizes = [conv(torch.zeros(2, 1, w)).shape for w in (width, width + 1, width + reach)]
    axes = axes_of(sizes[0], (1, *sizes[0][1:]), sizes[1], 2, width, (sizes[2], reach))
    assert axes is not None
    assert axes[2] == CountedAxis(stride=Fraction(stride))
    for length in range(kernel, width + 1):
        sound = torch.full((1, 1, width), torch.nan)
        sound[..., :length] = 0.0
        clean = int((~conv(sound).isnan()).sum())
        first, count = axes[2].frames(Spot(0, 0, length), sizes[0][2], width)
        assert first == 0
        assert clean - 1 - padding <= count <= clean


def test_what_begins_within_a_frame_is_not_compared() -> None:
    axis = CountedAxis(stride=Fraction(4))
    assert axis.frames(Spot(0, 8, 16), 12, 48) == (2, 4)
    assert axis.frames(Spot(0, 5, 16), 12, 48)[1] == 0
