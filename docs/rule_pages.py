"""The pages of lint's rules, put where ``{rules}`` stands; their text lives beside the rules."""

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

from batchproof.scripts.lint.rule import Rule
from batchproof.scripts.lint.rules import RULES

PLACE = "{rules}"
_HEADING = re.compile(r"^(#+ )", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _filled)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _filled(_: Sphinx, __: str, source: list[str]) -> None:
    source[0] = re.sub(rf"^{re.escape(PLACE)}$", lambda _: "\n".join(_pages()), source[0], flags=re.MULTILINE)


def _pages() -> Iterator[str]:
    yield "| code | severity | finds |\n| --- | --- | --- |"
    yield from (f"| [{rule.code}](#{_anchor(rule)}) | {rule.severity.value} | {rule.summary} |" for rule in RULES)
    for rule in RULES:
        yield f"\n## {rule.code} {rule.name}\n\n*{rule.severity.value}*\n"
        yield _HEADING.sub(r"#\1", rule.page)


def _anchor(rule: Rule) -> str:
    return f"{rule.code.lower()}-{rule.name}"
