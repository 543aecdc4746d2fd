"""What a rule is made of, and the words that several rules share."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.source import Divisor, Quantity, Topic, Weight, callee_of

if TYPE_CHECKING:
    from batchproof.scripts.source import Average, AverageSite, Suspicion

#: What is taken for a mean over the batch: a value that the source does not explain mostly is one.
MEANS = (Quantity.MEAN, Quantity.UNKNOWN)
_SHOWN = 48
_ADDING = ("add", "append", "extend", "update")


@dataclass(frozen=True)
class RelatedNode:
    """A line that belongs to a verdict, and what it does."""

    node: ast.AST
    message: str


@dataclass(frozen=True)
class Verdict:
    """What a rule says about a place.

    Attributes:
        node: what is pointed at.
        message: what is wrong, in a sentence.
        remedy: what to write instead.
        marks: the other lines that make it so.
        severity: where it is another than the rule's.
    """

    node: ast.AST
    message: str
    remedy: str
    marks: tuple[RelatedNode, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        file: of the module that it stands in, whose name is the rule's; its page stands beside.
        severity: how much the number tends to be off.
        summary: what it finds, in a line.
        site: the verdict on an average over batches; None where there is nothing to say.
        topic: the suspicions that it takes up.
        suspicion: the verdict on such a suspicion.
    """

    file: str
    severity: Severity
    summary: str
    site: Callable[[AverageSite], Verdict | None] | None = None
    topic: Topic | None = None
    suspicion: Callable[[Suspicion], Verdict] | None = None

    @property
    def code(self) -> str:
        """``"BP101"`` of a rule in ``bp101_nonlinear_metric_averaged.py``."""
        return Path(self.file).stem.partition("_")[0].upper()

    @property
    def name(self) -> str:
        """``"nonlinear-metric-averaged"`` of a rule in ``bp101_nonlinear_metric_averaged.py``."""
        return Path(self.file).stem.partition("_")[2].replace("_", "-")

    @property
    def page(self) -> str:
        """All about it, in Markdown; the first example is wrong, the second right."""
        return Path(self.file).with_suffix(".md").read_text(encoding="utf-8")


def code_of(node: ast.AST | None) -> str:
    """An expression as it is quoted in a sentence, on one line and not too long.

    >>> code_of(ast.parse("loss . item()").body[0])
    '`loss.item()`'
    """
    if node is None:
        return "a value"
    text = " ".join(ast.unparse(node).split())
    if len(text) > _SHOWN and isinstance(node, ast.Call):
        text = f"{ast.unparse(node.func)}(...)"
    return f"`{text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'}`"


def value_of(site: AverageSite) -> str:
    """What is added, as a reader knows it: the call that computes it rather than ``loss.item()``."""
    return code_of(call_of(site) or site.added.node)


def call_of(site: AverageSite) -> ast.Call | None:
    """The call whose value is added; where a meter's class stands in between, the one that its ``update`` is given."""
    for node in (site.added.call, site.added.origin):
        if isinstance(node, ast.Call):
            return node
    return None


def name_of(site: AverageSite) -> str:
    """The accumulator as the loop knows it: ``losses`` of ``losses.update(loss.item())``, whatever it does inside."""
    add = site.add.value if isinstance(site.add, ast.Expr) else site.add
    if isinstance(add, ast.Call) and isinstance(add.func, ast.Attribute) and add.func.attr in _ADDING:
        return code_of(add.func.value)
    return f"`{site.name}`"


def reported(site: AverageSite) -> Average | None:
    """The average that is a result: one that is read after the loop rather than inside, and not a window's."""
    results = [average for average in site.averages if not average.window]
    results = [average for average in results if average.divisor is not Divisor.UNKNOWN] or results
    return next((average for average in results if not average.inside), results[0] if results else None)


def origin(site: AverageSite) -> tuple[RelatedNode, ...]:
    """Where the value becomes what it is, if that is another line than where it is added."""
    return _elsewhere(site, site.added.origin, site.added.why or "computed here")


def division(site: AverageSite, message: str) -> tuple[RelatedNode, ...]:
    """Where the total is divided, if that is another line than where it is added."""
    average = reported(site)
    return _elsewhere(site, None if average is None else average.node, message)


def _elsewhere(site: AverageSite, node: ast.AST | None, message: str) -> tuple[RelatedNode, ...]:
    if getattr(node, "lineno", None) in (None, getattr(site.add, "lineno", None)):
        return ()
    assert node is not None
    return (RelatedNode(node, message),)


def function_of(site: AverageSite) -> str | None:
    """The name of the function whose value is added, where the call is one of a plain or dotted name."""
    call = site.added.call
    if not isinstance(call, ast.Call):
        return None
    name = call.func
    while isinstance(name, ast.Attribute):
        name = name.value
    return ast.unparse(call.func) if isinstance(name, ast.Name) else None


def logged(site: AverageSite) -> ast.Call | None:
    """``self.log("rmse", ...)`` of a step, where that is what adds the batch: a trainer averages what is logged."""
    add = site.add.value if isinstance(site.add, ast.Expr) else site.add
    is_log = isinstance(add, ast.Call) and callee_of(add) in ("log", "log_dict")
    return add if is_log and any(average.node is add for average in site.averages) else None  # type: ignore[return-value]


def averages(site: AverageSite, quantity: Quantity) -> bool:
    """Whether values of this kind are averaged, of batches that hold more than one sample."""
    return site.added.quantity is quantity and reported(site) is not None and site.loop.loader.batch_size != 1


def divided(site: AverageSite) -> tuple[RelatedNode, ...]:
    """Where the average of what no weighting repairs is taken."""
    average = reported(site)
    assert average is not None
    weighted = site.added.weight is not Weight.NONE or average.divisor in (Divisor.SAMPLES, Divisor.WEIGHTS)
    return division(site, "averaged here; weighting does not repair it" if weighted else "averaged here")


def batches_are_equal(site: AverageSite) -> bool:
    """Whether the file says that no batch is short; that samples are dropped for it is another rule's."""
    return site.loop.loader.batch_size == 1 or site.loop.loader.drops_last is True


def loader_of(site: AverageSite) -> tuple[RelatedNode, ...]:
    """Where the loader is built that keeps its last batch."""
    built = site.loop.loader.built
    return (RelatedNode(built, "its last batch may be short"),) if built is not None else ()


def says(message: str, remedy: str) -> Callable[[Suspicion], Verdict]:
    """The verdict that says what was seen, in the place of a ``{}``, and what it does."""

    def verdict(suspicion: Suspicion) -> Verdict:
        return Verdict(suspicion.node, message.format(suspicion.why), remedy)

    return verdict
