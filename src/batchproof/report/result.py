"""What all verbs' results have in common: they print as a report, show in a notebook, and turn into JSON."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from enum import Enum
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints


class Result:
    """A dataclass that some verb gives back.

    Beside the module of such a class is another, ``document``, whose ``document(result)`` is made into text, pages and
    pictures.

    Attributes:
        SCHEMA: what its data is called, with the version: ``"batchproof/explain/1"``.
        DERIVED: what its data has beside the fields, with the types.  A class that a result is made of may have it too;
            what that does not know itself, the result fills in.
    """

    SCHEMA: ClassVar[str]
    DERIVED: ClassVar[dict[str, Any]] = {"exit_status": int}

    @staticmethod
    def unwritable(number: float) -> Any:
        """What stands in the data for a number that is not finite, which JSON does not have."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able data, and what follows from them; a number that is not finite becomes None."""
        return {"schema": self.SCHEMA, **_fields(self, self.unwritable)}

    def __repr__(self) -> str:
        """The class and the verdict: a cell of a notebook, or a line of a debugger, has no room for all fields."""
        from batchproof.report.forms import document_of

        document = document_of(self)
        return f"<{type(self).__name__}: {document.headline}>"

    def __str__(self) -> str:
        from batchproof.report.forms import render

        return render(self)

    def details(self) -> str:
        """The whole report, as the command line prints it with ``-v``."""
        from batchproof.report.forms import render

        return render(self, is_verbose=True)

    def _repr_html_(self) -> str:
        from batchproof.report.html import render

        return render(self)


def _fields(value: Any, unwritable: Callable[[float], Any]) -> dict[str, Any]:
    """A dataclass's fields and what follows from them, as data."""
    names = (*(field.name for field in dataclasses.fields(value)), *getattr(value, "DERIVED", ()))
    return {name: plain(getattr(value, name, None), unwritable) for name in names}


def plain(value: Any, unwritable: Callable[[float], Any] = lambda number: None) -> Any:
    """Any part of a result as data; of a number that is not finite, which JSON does not have, what is given for it."""
    if isinstance(value, Result):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return _fields(value, unwritable)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item, unwritable) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, unwritable) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return unwritable(value)
    return value


def from_plain(kind: Any, data: Any) -> Any:
    """A dataclass from what JSON gives of it: by the types of its fields, which may be dataclasses and tuples of them.

    >>> from batchproof.ground.place import Place
    >>> from_plain(tuple[Place, ...], [{"file": "loss.py", "line": 11}])
    (Place(file='loss.py', line=11, text=''),)
    """
    parts = get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        known = (field.name for field in dataclasses.fields(kind) if field.name in data)
        return kind(**{name: from_plain(hints[name], data[name]) for name in known})
    if get_origin(kind) is tuple:
        kinds = itertools.repeat(parts[0]) if parts[-1] is Ellipsis else parts
        return tuple(from_plain(part, item) for part, item in zip(kinds, data, strict=False))
    if get_origin(kind) in (Union, UnionType):
        return None if data is None else from_plain(parts[0], data)
    return float(data) if kind is float else data
