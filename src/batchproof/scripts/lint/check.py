"""A file held against the rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

from batchproof.scripts.lint.finding import LintFinding, Related, Severity, SourceSpan
from batchproof.scripts.lint.rule import Rule, Verdict
from batchproof.scripts.lint.rules import CODES, RULES
from batchproof.scripts.lint.source import SourceFile, silence
from batchproof.scripts.source import AverageSite, Quantity, Script, Suspicion, find

#: A finding, and the average that it is about where it is about one.
FoundSite = tuple[LintFinding, AverageSite | None]
#: A file that has none of these is about something else, whatever it adds up in its loops.
_ABOUT_TRAINING = re.compile(
    "torch|loader|batch|epoch|loss|model|dataset|lightning|keras|tensorflow|jax|accura|metric|criterion", re.IGNORECASE
)
_WEIGHT = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
#: The rules about averages, the weightiest first: a place is reported once.
_OF_SITES = sorted((rule for rule in RULES if rule.site), key=lambda rule: _WEIGHT[rule.severity])
_OF_SUSPICIONS = {rule.topic: rule for rule in RULES if rule.topic}


def check_with_sites(source: SourceFile, codes: Collection[str] = CODES) -> list[FoundSite]:
    """What the rules find, in the order of the lines, each with the place that it is about.

    What a comment silences is left out.
    """
    if not _ABOUT_TRAINING.search(source.text):
        return []
    script = find(source.tree)
    silenced = silence(source)
    found: dict[tuple[SourceSpan, bool], FoundSite] = {}  # the columns of a table are one finding, the worst
    for rule, verdict, site in _verdicts(script):
        if rule.code not in codes or silenced.covers(rule.code, _statement_lines(source, verdict.node)):
            continue
        finding = _finding(source, rule, verdict)
        place = finding.span, site is not None
        if place not in found or _WEIGHT[finding.severity] < _WEIGHT[found[place][0].severity]:
            found[place] = finding, site
    return sorted(found.values(), key=lambda pair: _order(pair[0].span))


def _verdicts(script: Script) -> Iterator[tuple[Rule, Verdict, AverageSite | None]]:
    consumed = _parts_of_running(script)
    for site in script.sites:
        if site.averages and all(id(average.node) in consumed for average in site.averages):
            continue  # `running / (i + 1)` is a part of what is wrong with `total += running / (i + 1)`
        found = _of(site)
        if found is not None:
            yield *found, site
    for suspicion in script.suspicions:
        found = _about(suspicion)
        if found is not None:
            yield *found, None


def _parts_of_running(script: Script) -> set[int]:
    """What running totals are made of."""
    running = [site.add for site in script.sites if site.added.quantity is Quantity.RUNNING]
    return {id(node) for add in running for node in ast.walk(add)}


def _of(site: AverageSite) -> tuple[Rule, Verdict] | None:
    for rule in _OF_SITES:
        assert rule.site is not None
        verdict = rule.site(site)
        if verdict is not None:
            return rule, verdict
    return None


def _about(suspicion: Suspicion) -> tuple[Rule, Verdict] | None:
    rule = _OF_SUSPICIONS.get(suspicion.topic)
    if rule is None or rule.suspicion is None:
        return None
    return rule, rule.suspicion(suspicion)


def _finding(source: SourceFile, rule: Rule, verdict: Verdict) -> LintFinding:
    span = span_of(source, verdict.node)
    marks = dict.fromkeys((span_of(source, mark.node), mark.message) for mark in verdict.marks)
    return LintFinding(
        code=rule.code,
        severity=verdict.severity or rule.severity,
        path=source.path,
        span=span,
        message=verdict.message,
        remedy=verdict.remedy,
        related=tuple(Related(place, message) for place, message in marks if place != span),
        function=_function_at(source.tree, verdict.node),
        statement=_code_of(source, verdict.node),
    )


def _function_at(tree: ast.AST, node: ast.AST) -> str:
    """The functions and classes that a node stands in."""
    line = getattr(node, "lineno", 1)
    names: list[str] = []
    inside: ast.AST | None = tree
    while inside is not None:
        if isinstance(inside, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(inside.name)
        children = (child for child in ast.iter_child_nodes(inside) if child is not node)
        inside = next((child for child in children if _holds(child, line)), None)
    return ".".join(names)


def _holds(node: ast.AST, line: int) -> bool:
    """Whether it is a statement, or a part of one that holds statements, with this line in it."""
    return isinstance(node, (ast.stmt, ast.ExceptHandler)) and node.lineno <= line <= (node.end_lineno or line)


def _code_of(source: SourceFile, node: ast.AST) -> str:
    """A node as it is written, on one line; of a statement with a body only the head."""
    has_body = isinstance(getattr(node, "body", None), list)
    text = None if has_body else ast.get_source_segment(source.text, node)
    return " ".join((text or source.line(getattr(node, "lineno", 1))).split())


def span_of(source: SourceFile, node: ast.AST) -> SourceSpan:
    """Where a node stands in its file; of a statement with a body only the head."""
    first, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    last, end = getattr(node, "end_lineno", None) or first, getattr(node, "end_col_offset", None) or offset
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        last, end = first, len(source.line(first).encode("utf-8", "surrogatepass"))
    column, end_column = source.column(first, offset), source.column(last, end)
    cell = source.cell(first)
    if cell is None:
        return SourceSpan(first, column, last, end_column)
    return SourceSpan(first - cell.start + 1, column, last - cell.start + 1, end_column, cell.number)


def _statement_lines(source: SourceFile, node: ast.AST) -> range:
    """The lines of the statement that a node stands in, where a comment may silence it; of a compound one the head."""
    line = getattr(node, "lineno", 1)
    first, last = line, getattr(node, "end_lineno", line) or line
    if "noqa" in source.text.lower():
        for statement in ast.walk(source.tree):
            if not isinstance(statement, ast.stmt):
                continue
            end = statement.end_lineno or statement.lineno
            body = getattr(statement, "body", None)
            if isinstance(body, list) and body:
                end = max(statement.lineno, body[0].lineno - 1)
            if statement.lineno <= line <= end:
                first, last = min(first, statement.lineno), max(last, end)
    return range(first, last + 1)


def _order(span: SourceSpan) -> tuple[int, int, int]:
    return span.cell or 0, span.line, span.column
