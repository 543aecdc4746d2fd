"""explain: does this number depend on the batch size, why, at which line, and by how much?"""

from batchproof.explanation.explain import explain
from batchproof.explanation.guess import guess_samples, role_of
from batchproof.explanation.measure import Progress
from batchproof.explanation.result import Curve, Explanation, Finding, Given, Keep, Reading
from batchproof.explanation.samples import Samples, gather, together
from batchproof.explanation.wording import low_or_high
from batchproof.ground.place import Place

__all__ = [
    "Curve",
    "Explanation",
    "Finding",
    "Given",
    "Keep",
    "Place",
    "Progress",
    "Reading",
    "Samples",
    "explain",
    "gather",
    "guess_samples",
    "low_or_high",
    "role_of",
    "together",
]
