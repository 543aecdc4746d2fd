"""explain: does this number depend on the batch size, why, at which line, and by how much?"""

from batchproof.explanation.explain import explain
from batchproof.explanation.guess import guess_samples, role_of
from batchproof.explanation.measure import Progress
from batchproof.explanation.result import Curve, Explanation, Finding, Given, Keep, Reading
from batchproof.explanation.samples import Samples, gather, together
from batchproof.explanation.usage import exact_lines
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
    "exact_lines",
    "explain",
    "gather",
    "guess_samples",
    "role_of",
    "together",
]
