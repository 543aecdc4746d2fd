"""The figures that the question's answer published, for normal errors of scale 100 in 10,000 batches of each size.

"Larger batch size cause larger loss", Stack Overflow; the answer's two examples.  Its first table has no row for
100,000.
"""

from __future__ import annotations

SOURCE = 'the answer to "Larger batch size cause larger loss" on Stack Overflow'
SCALE, BATCHES = 100.0, 10_000

#: Example 1: the root of the mean square of all errors.
POOLED = {
    1: 99.94982147216797, 2: 100.38357543945312, 3: 100.24600982666016, 5: 100.97154998779297, 9: 100.06820678710938,
    10: 100.12358856201172, 100: 99.94219970703125, 1_000: 99.97941589355469, 10_000: 100.00338745117188,
}  # fmt: skip

#: Example 2: the mean of the batches' own roots.
MEAN = {
    1: 80.95650482177734, 2: 88.734375, 3: 92.08515930175781, 5: 95.56260681152344, 9: 97.49445343017578,
    10: 97.20250701904297, 100: 99.6297607421875, 1_000: 99.96969604492188, 10_000: 99.99618530273438,
    100_000: 100.00079345703125,
}  # fmt: skip

SIZES = tuple(MEAN)
