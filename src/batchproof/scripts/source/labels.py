"""What a script prints directly before a number: ``loss`` of ``print(f"loss: {total / n:.3f}")``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter

from batchproof.scripts.source.totals import Averaged
from batchproof.scripts.source.values import Value

#: The words that a text ends with, before a colon or an equals sign.
_LABEL = re.compile(r"(?:^|[^\w %./@²-])\s*([^\W\d_][\w %./@²-]*?)\s*[:=]?\s*$")
_LONGEST = 24


def label_of(text: str) -> str:
    """The label that a text ends with; empty where it ends with none.

    >>> label_of("Epoch 3 | test loss: "), label_of("Test set: Average loss "), label_of("took 3 "), label_of(", ")
    ('test loss', 'Average loss', '', '')
    """
    found = _LABEL.search(text)
    label = " ".join(found[1].split()) if found else ""
    return "" if len(label) > _LONGEST or re.search(r"\s\d", label) else label


def in_text(parts: Iterable[tuple[ast.expr, Value | None]]) -> None:
    """Note the labels in an f-string: its parts, those that are formatted with their values."""
    before = ""
    for node, value in parts:
        if isinstance(value, Averaged):
            _note(value, before)
        before = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def in_arguments(nodes: Sequence[ast.expr], values: Sequence[Value]) -> None:
    """Note the labels of ``print("loss", total / n)``."""
    in_text(zip(nodes, values, strict=True))


def in_format(template: object, values: Sequence[Value], named: Mapping[str, Value]) -> None:
    """Note the labels of ``"loss: {:.3f}".format(total / n)``."""
    try:
        parts = list(Formatter().parse(template)) if isinstance(template, str) else []
    except ValueError:
        return
    count = 0
    for text, field, _, _ in parts:
        if field is None:
            continue
        key = field or str(count)
        count += not field
        value = named.get(key) or (values[int(key)] if key.isdecimal() and int(key) < len(values) else None)
        if isinstance(value, Averaged):
            _note(value, text)


def _note(value: Averaged, text: str) -> None:
    label = label_of(text)
    for entry in value.entries if label else ():
        entry.labels.setdefault(label)
