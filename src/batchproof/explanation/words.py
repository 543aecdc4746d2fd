"""A kept sum in words: as the user wrote what it is taken of."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from batchproof.derive import SUM, Leaf

_REDUCTIONS = frozenset("sum mean nansum nanmean var std norm logsumexp amax amin max min any all".split())
MOST_LEAVES = 3
MOST_CHARACTERS = 64
LONGEST = 32


def kept_words(leaves: Sequence[Leaf]) -> str:
    """``sum of square and the count``; many leaves are counted, not listed."""
    named: dict[str, int] = {}
    taken: dict[tuple[str, int], int] = {}
    for leaf in leaves:
        key = (leaf.site.file, leaf.site.line)
        word = _leaf_words(leaf, taken.get(key, 0))
        taken[key] = taken.get(key, 0) + 1
        named[word] = named.get(word, 0) + 1
    words = [word if count == 1 else f"{count} {_plural(word)}" for word, count in named.items()]
    if len(words) > MOST_LEAVES or len(", ".join(words)) > MOST_CHARACTERS:
        words = [f"{len(leaves)} sums"] if all(leaf.merge is SUM for leaf in leaves) else [f"{len(leaves)} values"]
    return ", ".join(words) + (" and " if words else "") + "the count"


def _leaf_words(leaf: Leaf, position: int) -> str:
    what = summand(leaf.site.text, position)
    where = f" of {what}" if what else f" at line {leaf.site.line}" if leaf.site.line else ""
    return leaf.merge.describe(where + (f" around {leaf.points} centres" if leaf.points > 1 else ""))


def _plural(word: str) -> str:
    head, _, rest = word.partition(" ")
    return f"{head}s {rest}".rstrip() if head == "sum" else word


def summand(line: str, position: int = 0) -> str:
    """What the reduction on a source line is taken of; empty where the line does not say it shortly."""
    found = [text for text in _reduced(line) if len(text) <= LONGEST]
    return found[position % len(found)] if found else ""


def _reduced(line: str) -> Iterator[str]:
    tree = _parse(line)
    if tree is None:
        return
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node) in _REDUCTIONS]
    for call in sorted(calls, key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0)):
        func = call.func
        library = (
            isinstance(func, ast.Attribute)
            and isinstance(func.value, ast.Name)
            and func.value.id in ("torch", "np", "F")
        )
        if isinstance(func, ast.Attribute) and not library:
            yield ast.unparse(func.value).strip("()") if isinstance(func.value, ast.Name) else ast.unparse(func.value)
        elif call.args:
            yield ast.unparse(call.args[0])


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _parse(line: str) -> ast.AST | None:
    for source in (line, f"{line} pass", line.rstrip(":"), f"{line})", line.removeprefix("return ")):
        try:
            return ast.parse(source.strip())
        except SyntaxError:
            continue
    return None
