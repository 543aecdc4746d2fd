"""All rules: each is a module of this package, with its page beside it as Markdown; both are found by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from batchproof.scripts.lint.rule import Rule


def _rules() -> Iterator[Rule]:
    for module in iter_modules(__path__, f"{__name__}."):
        yield import_module(module.name).RULE


RULES: tuple[Rule, ...] = tuple(sorted(_rules(), key=lambda rule: rule.code))
#: By code, in the order of the codes.
BY_CODE = {rule.code: rule for rule in RULES}
CODES = tuple(BY_CODE)

__all__ = ["BY_CODE", "CODES", "RULES"]
