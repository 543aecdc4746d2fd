"""An optimizer that steps nowhere: it notes the gradient that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from batchproof.gradients.check import GradientRecorder


class Capture(torch.optim.Optimizer):
    """In a trainer in place of its optimizer: the weights stay as they are, and every step is a window's end."""

    def __init__(self, recorder: GradientRecorder) -> None:
        super().__init__(recorder.parameters.values(), {"lr": 0.0})
        self._recorder = recorder

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Note what the gradients are now."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._recorder.close()
        return loss
