"""What ``gradient_noise`` found, as plain frozen data.  Nothing here runs a model, and nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from batchproof.ground.place import Place
from batchproof.report.estimates import Estimate
from batchproof.report.result import Result

#: What the noise was estimated from.
Method = Literal["per-sample", "micro-batches", "ratio", "batches"]
#: A squared gradient of fewer standard errors may be none.
CLEAR = 2.0


@dataclass(frozen=True)
class NoiseRow:
    """One batch size.

    Attributes:
        size: Samples in a batch.
        batches: How many batches were drawn.
        variance: The mean of ``|g - G|² / |G|²`` over the drawn batches, g a batch's gradient and G the full one; no
            unit. ``expected`` is what the noise of single samples makes of it.
        cosine: The mean of the cosine between g and G. ``expected`` is ``1 / sqrt(1 + variance)``, which is rough.
        undefined: Batches whose gradient was not finite, or which the model refused; the means leave them out.
    """

    size: int
    batches: int
    variance: Estimate
    cosine: Estimate
    undefined: int = 0
    DERIVED: ClassVar[dict[str, Any]] = {"progress": float}

    @property
    def progress(self) -> float:
        """What a step with such a batch achieves, as a share of one with the full gradient: ``1 / (1 + variance)``.

        McCandlish et al. 2018 (arXiv 1812.06162), equation 2.7, each step at its best learning rate.
        """
        variance = self.variance.value if self.variance.expected is None else self.variance.expected
        return 1 / (1 + variance)


@dataclass(frozen=True, repr=False)
class GradientNoise(Result):
    """How near a mini-batch's gradient comes to the full one, for each batch size, and the gradient noise scale.

    >>> import torch, batchproof
    >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    >>> model = torch.nn.Linear(3, 1)
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> found = batchproof.gradient_noise(model, torch.nn.functional.mse_loss, (x, x.sum(1, keepdim=True)))
    >>> found.method, found.noise_scale_se < found.noise_scale < 10
    ('per-sample', True)

    Attributes:
        target: What was differentiated: ``"mse_loss(Linear(x), y)"``.
        place: Where the loss is defined; None where no line is known.
        method: ``"per-sample"``: from the gradient of each sample. ``"micro-batches"``: from gradients of small
            batches, where those of single samples cannot be had. ``"ratio"``: from such gradients too, of a loss that
            divides by a number of its batch (a token mean, class weights), by the delta method. ``"batches"``: the
            loss couples the samples of a batch in another way: each size is measured by itself.
        reason: Why it was this method.
        samples: How many samples the data has.
        parameters: How many numbers the gradient has.
        rows: One for each batch size.
        noise_scale: ``trace / signal``, in samples: the batch size at which noise and gradient are of the same size.
            NaN with the method ``"batches"``, infinite where the samples show no gradient beside their noise.
        noise_scale_se: Its standard error.
        trace: The summed variance of a single sample's gradient over all parameters, in squared units of the gradient.
        signal: The squared norm of the gradient over all that the samples were drawn from, less what the noise
            of that number of samples adds to it; below 0 where noise is all there is.
        signal_se: Its standard error.
        gradient_norm: The norm of the full gradient: that of the given samples, all together.
        headline: The answer in a sentence.
        batches: How many batches of each size were asked for, at most.
        seed: Of the random numbers.
        unit: Samples in a micro-batch; 1 with the method ``"per-sample"``, 0 with ``"batches"``.
        random: Whether two calls on the same batch differ, as they do with dropout.
        redrawn: Of a random model, the squared distance of two full gradients with other random numbers; 0 otherwise.
        notes: What else to know.
        interrupted: Whether Ctrl-C ended it before the last batch size.
        seconds: How long it took.
        marked: The reader's own batch size: the reports point at it.
    """

    target: str
    place: Place | None
    method: Method
    reason: str
    samples: int
    parameters: int
    rows: tuple[NoiseRow, ...]
    noise_scale: float
    noise_scale_se: float
    trace: float
    signal: float
    signal_se: float
    gradient_norm: float
    headline: str
    batches: int
    seed: int
    unit: int = 1
    random: bool = False
    redrawn: float = 0.0
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    seconds: float = 0.0
    marked: int | None = None
    SCHEMA: ClassVar[str] = "batchproof/noise/1"

    @property
    def is_clear(self) -> bool:
        """Whether the samples show a gradient beside their noise, so that the noise scale is known."""
        return self.signal > CLEAR * self.signal_se

    @property
    def at_least(self) -> float:
        """What the noise scale is at least, where it is not known: two standard errors of the squared gradient off."""
        most = max(self.signal, 0.0) + CLEAR * self.signal_se
        return self.trace / most if most > 0 else math.nan

    @property
    def exit_status(self) -> int:
        """0: measured.  2: could not tell, the samples show no gradient beside their noise."""
        if self.method == "batches":
            return 0 if any(math.isfinite(row.variance.value) for row in self.rows) else 2
        return 0 if self.is_clear else 2

    def expected_variance(self, size: int) -> float:
        """What the noise of single samples makes of ``|g - G|² / |G|²``, batches drawn without replacement.

        ``(1/b - 1/N) tr(S) / |G|²`` (Cochran, Sampling Techniques, 3rd ed. 1977, theorem 2.2), S the covariance of the
        N per-sample gradients with N - 1 in its denominator. What a random model puts between two full gradients comes
        on top. NaN with the method ``"batches"``, and where G is zero.
        """
        square = self.gradient_norm**2
        drawn = self.trace * (1 / size - 1 / self.samples)
        return (drawn + self.redrawn) / square if square else math.nan
