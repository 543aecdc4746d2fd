"""What one statement of a function's source does with numbers: takes a root, divides, clips."""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Collection, Iterator, Mapping
from types import CodeType

from batchproof.explanation.cause_texts import finding
from batchproof.explanation.operators import PIECEWISE, word_for
from batchproof.explanation.result import Code, Finding
from batchproof.ground.place import Place

#: Calls that make a number of samples: what is done to these before is done sample by sample.
_REDUCE = frozenset("item tolist mean sum nanmean nansum count_nonzero average".split())
_BENDS = frozenset("min max abs round clip ceil floor".split()) | PIECEWISE
_SIZES = frozenset("len numel size shape".split())
_CURVES = frozenset(
    """sqrt rsqrt cbrt log log10 log2 log1p exp expm1 exp2 pow square reciprocal sigmoid tanh acos asin atan atanh erf
hypot norm prod""".split()
)
_EXTREMES = frozenset("max min amax amin nanmax nanmin ptp".split())
#: Calls that take all samples of the batch, where NumPy does what no recorded program holds.
_OF_A_BATCH: dict[str, Code] = {
    **dict.fromkeys("std var nanstd nanvar cov corrcoef pearsonr".split(), "centred"),
    **dict.fromkeys("median nanmedian percentile quantile argsort sort sorted rankdata spearmanr".split(), "order"),
    **dict.fromkeys(_EXTREMES, "extreme"),
}


def statement_at(code: CodeType, line: int) -> ast.stmt | None:
    """The innermost statement that a line belongs to."""
    found = [node for node in _statements(code.co_filename) if node.lineno <= line <= (node.end_lineno or node.lineno)]
    return min(found, key=lambda node: (node.end_lineno or node.lineno) - node.lineno, default=None)


@functools.lru_cache(maxsize=16)
def _statements(file: str) -> list[ast.stmt]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def names_of(statement: ast.stmt | None) -> set[str]:
    """The names whose values it takes; what it adds to is one of them."""
    if statement is None:
        return set()
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        found.add(statement.target.id)
    return found


def cause_of(
    statement: ast.stmt | None, given: Mapping[str, str], local: Collection[str], place: Place
) -> Finding[Code]:
    """What a statement does that makes a number of means and sums none itself.

    Args:
        statement: where it happens.
        given: of the names that it reads, how their numbers follow from those of parts of the samples.
        local: the names that belong to its function; others are fixed.
        place: its line, for the report.
    """
    asked, nodes = _Reading(given, local), list(_outside_reductions(statement))
    if any(asked.is_ratio(node) for node in nodes):
        return finding("ratio", place)
    for node in nodes:
        if asked.bends_a_size(node):
            return finding("size", place)
        if taken := asked.of_a_batch(node):
            return finding(taken, place)
        if word := asked.curve(node):
            return finding("nonlinear", place, what=f"{word} is taken in each batch")
        if word := asked.bend(node):
            return finding("limit", place, what=f"{word} is taken in each batch")
    unlike = (asked.sum_of_unlike(node) for node in nodes)
    code: Code | None = next(filter(None, unlike), None)
    if code is not None:
        return finding(code, place)
    return finding("unexplained", place, what="what this line gives is no mean and no sum over samples")


def _outside_reductions(node: ast.AST | None) -> Iterator[ast.AST]:
    """The parts of a statement that see numbers: a root inside of a mean is one of each sample."""
    if node is None:
        return
    yield node
    if not (isinstance(node, ast.Call) and _name(node.func) in _REDUCE):
        for child in ast.iter_child_nodes(node):
            yield from _outside_reductions(child)


class _Reading:
    """Questions about expressions, where it is known of names what their numbers are."""

    def __init__(self, given: Mapping[str, str], local: Collection[str]) -> None:
        self.given = given
        self.local = local

    def is_sized(self, node: ast.AST) -> bool:
        """Whether an expression is made of fixed numbers and of the batch size alone."""
        if isinstance(node, ast.Name):
            return node.id not in self.local or self.given.get(node.id) in ("fixed", "size", "count")
        if isinstance(node, ast.Call) and _name(node.func) in _SIZES:
            return True
        if isinstance(node, ast.Subscript):
            return _name(node.value) in _SIZES
        if isinstance(node, ast.Attribute):
            return node.attr in _SIZES or _name(node.value) == "self"
        if isinstance(node, ast.Call):
            return bool(node.args) and all(self.is_sized(argument) for argument in node.args)
        if isinstance(node, (ast.BinOp, ast.UnaryOp)):
            return all(self.is_sized(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
        return isinstance(node, ast.Constant)

    def is_ratio(self, node: ast.AST) -> bool:
        """Whether it divides what comes from the data by what comes from the data."""
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
            return not self.is_sized(node.value)
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.FloorDiv))):
            return False
        return not self.is_sized(node.left) and not self.is_sized(node.right)

    def bends_a_size(self, node: ast.AST) -> bool:
        """A root or logarithm of the batch size: ``math.log(len(x))``."""
        if isinstance(node, ast.Call) and _name(node.func) in _CURVES:
            return bool(node.args) and self.is_sized(node) and not all(map(_is_constant, node.args))
        power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
        return power and self.is_sized(node) and not _is_constant(node)

    def of_a_batch(self, node: ast.AST) -> Code | None:
        """What a call does to the samples of a batch; the larger of two numbers is none of these."""
        if not isinstance(node, ast.Call) or self.is_sized(node):
            return None
        name, is_method = _name(node.func), isinstance(node.func, ast.Attribute) and not node.args
        is_of_two = name in _EXTREMES and not is_method and len(node.args) != 1
        return None if is_of_two else _OF_A_BATCH.get(name)

    def curve(self, node: ast.AST) -> str:
        """A function that is not linear, by its word: ``the square root``."""
        if isinstance(node, ast.Call) and _name(node.func) in _CURVES and not self.is_sized(node):
            return word_for(_name(node.func))
        if not isinstance(node, ast.BinOp) or self.is_sized(node):
            return ""
        if isinstance(node.op, ast.Pow):
            return word_for({0.5: "sqrt", 2: "square"}.get(getattr(node.right, "value", 0), "power"))
        if isinstance(node.op, ast.Div):
            return "" if self.is_sized(node.right) else word_for("reciprocal")
        varies = not self.is_sized(node.left) and not self.is_sized(node.right)
        return "a product" if isinstance(node.op, ast.Mult) and varies else ""

    def bend(self, node: ast.AST) -> str:
        """A limit of some kind."""
        is_bend = isinstance(node, ast.Call) and _name(node.func) in _BENDS and not self.is_sized(node)
        return word_for(_name(node.func)) if is_bend and isinstance(node, ast.Call) else ""

    def sum_of_unlike(self, node: ast.AST) -> Code | None:
        """A mean and a sum, or the batch size beside either."""
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub))):
            return None
        kinds = {self.given.get(name.id) for name in _names(node)}
        if {"mean", "sum"} <= kinds:
            return "mean-and-sum"
        return "size" if self.is_sized(node.left) != self.is_sized(node.right) and self._has_size(node) else None

    def _has_size(self, node: ast.AST) -> bool:
        return any(self.is_sized(child) and not _is_constant(child) for child in ast.walk(node))


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (child for child in ast.walk(node) if isinstance(child, ast.Name))


def _is_constant(node: ast.AST) -> bool:
    return not any(isinstance(child, (ast.Name, ast.Attribute)) for child in ast.walk(node))


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
