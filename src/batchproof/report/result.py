"""What all verbs' results have in common: they print as a report, show in a notebook, and turn into JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


class Result:
    """A dataclass that some verb gives back.

    Beside the module of such a class is another, ``document``, whose ``document(result)`` is made into text, pages and
    pictures.
    """

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able data; a number that is not finite becomes None."""
        data: dict[str, Any] = plain(dataclasses.asdict(self))  # type: ignore[call-overload]
        return data

    def __str__(self) -> str:
        from batchproof.report.forms import render

        return render(self)

    def _repr_html_(self) -> str:
        from batchproof.report.html import render

        return render(self)


def plain(value: Any) -> Any:
    """A number that is not finite becomes None, in nested containers too."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
