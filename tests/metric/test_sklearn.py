"""scikit-learn's functions of torch tensors: with array API dispatch they are analysed as any other."""

from __future__ import annotations

import os
import subprocess
import sys

#: In a process of its own: scipy reads the variable when it is imported.
CODE = """
import sklearn, torch, batchproof
from sklearn import metrics
generator = torch.Generator().manual_seed(0)
real = torch.rand(120, generator=generator, dtype=torch.float64) + 0.1
said = (real + 0.1 * torch.randn(120, generator=generator)).clamp(min=0.05)
with sklearn.config_context(array_api_dispatch=True):
    for name in ("root_mean_squared_error", "r2_score", "mean_poisson_deviance", "max_error", "median_absolute_error"):
        function = getattr(metrics, name)
        metric = batchproof.exact(lambda a, b: function(a, b))
        for a, b in zip(real.split(40), said.split(40)):
            metric.update(a, b)
        assert abs(float(metric.compute()) - float(function(real, said))) < 1e-12, name
        print(name, metric.plan.is_constant_size)
"""


def test_regression_metrics_have_constant_size_and_a_median_keeps_samples() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    kept = dict(line.split() for line in ran.stdout.splitlines())
    assert kept.pop("median_absolute_error") == "False"
    assert set(kept.values()) == {"True"}
    assert len(kept) == 4
