"""explain: does this number depend on the batch size, why, at which line, and by how much?"""

from batchproof.explanation.explain import explain
from batchproof.explanation.result import Curve, Explanation, Finding, Given, Keep, Reading
from batchproof.ground.place import Place

__all__ = ["Curve", "Explanation", "Finding", "Given", "Keep", "Place", "Reading", "explain"]
