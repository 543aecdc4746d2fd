"""A JSON Schema of what a verb gives with ``--json``, from the types of its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from batchproof.report.result import Result

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}
Schema = dict[str, Any]


def json_schema(kind: Any, name: str) -> Schema:
    """The schema of a result, or of a TypedDict with all that is written.

    >>> from batchproof.ground.place import Place
    >>> json_schema(Place, "batchproof/place/1")["properties"]["line"]
    {'type': 'integer'}

    Args:
        kind: the class.
        name: what its data gives as ``schema``.
    """
    definitions: dict[str, Schema] = {}
    whole = _Reader(definitions).of_class(kind, {})
    properties = {"schema": {}, **whole["properties"]} | {"schema": {"const": name}}
    found = {
        "$schema": _DRAFT,
        "title": name,
        **whole,
        "properties": properties,
        "required": list(properties),
        "$defs": dict(sorted(definitions.items())),
    }
    return found if definitions else {key: value for key, value in found.items() if key != "$defs"}


class _Reader:
    """Types as schemas; classes are put among the definitions."""

    def __init__(self, definitions: dict[str, Schema], unwritable: Callable[[float], Any] = lambda number: None):
        self.definitions = definitions
        self.unwritable = unwritable

    def of_class(self, kind: Any, arguments: dict[Any, Any]) -> Schema:
        """An object with a property for each field, and for what follows from them."""
        reader = _Reader(self.definitions, kind.unwritable) if _is_result(kind) else self
        hints = get_type_hints(kind)
        names = list(hints) if is_typeddict(kind) else [field.name for field in dataclasses.fields(kind)]
        types = {name: hints[name] for name in names} | getattr(kind, "DERIVED", {})
        properties = {name: reader.of(arguments.get(type_, type_)) for name, type_ in types.items()}
        if _is_result(kind):
            properties = {"schema": {"const": kind.SCHEMA}, **properties}
        return {"type": "object", "properties": properties, "required": list(properties)}

    def of(self, kind: Any) -> Schema:
        """Any type that a result has."""
        origin, parts = get_origin(kind), get_args(kind)
        if origin in (Union, UnionType):
            return {"anyOf": [self.of(part) for part in parts]}
        if origin is Literal:
            return {"enum": list(parts)}
        if origin is tuple and parts[-1] is not Ellipsis:
            return {"type": "array", "prefixItems": [self.of(part) for part in parts], "items": False}
        if origin in (tuple, list):
            return {"type": "array", "items": self.of(parts[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(parts[1])}
        return self.of_name(origin or kind, parts)

    def of_name(self, kind: Any, parts: tuple[Any, ...]) -> Schema:
        """A type that is no container."""
        if kind is float:
            others = [self.unwritable(float(text)) for text in ("nan", "inf", "-inf")]
            return {"anyOf": [{"type": "number"}, {"enum": list(dict.fromkeys(others))}]}
        if kind in _PLAIN:
            return _PLAIN[kind]
        if isinstance(kind, TypeVar):
            return self.of(kind.__bound__)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"enum": [member.value for member in kind]}
        if kind.__name__ not in self.definitions:
            self.definitions[kind.__name__] = {}  # it may hold another of its own
            parameters = getattr(kind, "__parameters__", ())
            self.definitions[kind.__name__] = self.of_class(kind, dict(zip(parameters, parts, strict=bool(parts))))
        return {"$ref": f"#/$defs/{kind.__name__}"}


def _is_result(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Result)
