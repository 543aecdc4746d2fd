"""``python -m bench.audit_sklearn``: what `batchproof.exact` keeps for scikit-learn's metrics, called on tensors.

With array API dispatch scikit-learn computes in torch, so its functions can be analysed as any other. The table in
docs/metric-classes.md is what this prints with ``--markdown``.
"""

from __future__ import annotations

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # read when scipy is imported

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sklearn.metrics
import torch
from torch import Tensor

import batchproof

REGRESSION = """mean_squared_error root_mean_squared_error mean_absolute_error mean_squared_log_error
root_mean_squared_log_error mean_absolute_percentage_error mean_pinball_loss mean_tweedie_deviance mean_gamma_deviance
mean_poisson_deviance r2_score explained_variance_score d2_tweedie_score d2_pinball_score d2_absolute_error_score
max_error median_absolute_error""".split()
CLASSES = """accuracy_score zero_one_loss hamming_loss balanced_accuracy_score f1_score precision_score recall_score
jaccard_score matthews_corrcoef cohen_kappa_score confusion_matrix""".split()
SCORES = "roc_auc_score average_precision_score brier_score_loss log_loss".split()
MACRO = ("f1_score", "precision_score", "recall_score", "jaccard_score")


@dataclass(frozen=True)
class Kept:
    """What is kept for a function: a state of some bytes, or samples, and why; and how far the value is off."""

    name: str
    nbytes: int | None
    why: str
    error: float


def audited() -> Iterator[Kept]:
    """All functions, each on samples that it takes, in four batches."""
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(200, generator=generator, dtype=torch.float64) + 0.1
    forecast = (real + 0.1 * torch.randn(200, generator=generator)).clamp(min=0.05)
    labels = torch.randint(3, (200,), generator=generator)
    said = torch.where(torch.rand(200, generator=generator) < 0.7, labels, labels.roll(1))
    binary, scores = (labels > 0).long(), torch.rand(200, generator=generator, dtype=torch.float64)
    for names, samples in ((REGRESSION, (real, forecast)), (CLASSES, (labels, said)), (SCORES, (binary, scores))):
        for name in names:
            yield kept(name, samples)


def kept(name: str, samples: tuple[Tensor, Tensor]) -> Kept:
    """Score one function in batches, and hold its value against that on all samples."""
    function = getattr(sklearn.metrics, name)
    options: dict[str, Any] = {"average": "macro"} if name in MACRO else {}

    def scored(real: Tensor, said: Tensor) -> Any:
        return function(real, said, **options)

    with sklearn.config_context(array_api_dispatch=True):
        try:
            expected = torch.as_tensor(scored(*samples), dtype=torch.float64)
        except Exception as error:  # noqa: BLE001 - scikit-learn cannot dispatch it
            return Kept(name, None, f"scikit-learn raises {type(error).__name__} on tensors", 0.0)
        metric = batchproof.exact(scored)
        for batch in zip(*(part.split(50) for part in samples), strict=True):
            metric.update(*batch)
        error = float((torch.as_tensor(metric.compute(), dtype=torch.float64) - expected).abs().max())
    plan = metric.plan
    return Kept(name, plan.nbytes if plan.is_constant_size else None, _short(plan.reason or ""), error)


def _short(reason: str) -> str:
    """Without the line, which lies in scikit-learn."""
    return reason.partition(", at /")[0].partition(" at /")[0]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.audit_sklearn", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print the table of the docs")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = list(audited())
    if options.markdown:
        print("| function | what is kept |\n|---|---|")
        for one in found:
            size = f"{one.nbytes} bytes, whatever the number of samples" if one.nbytes else f"samples: {one.why}"
            print(f"| `{one.name}` | {size} |")
    else:
        for one in found:
            print(f"{one.name:32} {one.nbytes or 'samples':>8}  off by {one.error:.0e}  {one.why}")
    small = sum(one.nbytes is not None for one in found)
    wrong = [one.name for one in found if not one.error <= 1e-9]
    print(f"scikit-learn: {len(found)} functions · constant size {small} · wrong {len(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
