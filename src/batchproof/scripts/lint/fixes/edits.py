"""Edits of a text by spans, which leave all else as it was.

Here spans are counted in the text that was parsed; a notebook's are counted in its cells once they leave this package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from batchproof.scripts.lint.finding import Edit, Fix, SourceSpan
from batchproof.scripts.lint.source import NEWLINE, SourceFile


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text with these edits, which do not overlap; inserted lines end as the text's own do."""
    starts = _starts(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    for edit in sorted(edits, key=lambda edit: _position(edit.span), reverse=True):
        span = edit.span
        begin, end = starts[span.line - 1] + span.column - 1, starts[span.end_line - 1] + span.end_column - 1
        text = text[:begin] + edit.text.replace("\n", newline) + text[end:]
    return text


def in_cells(source: SourceFile, edits: Iterable[Edit]) -> tuple[Edit, ...] | None:
    """Edits counted in the cells of a notebook; None where one reaches from one cell into another."""
    found = []
    for edit in edits:
        span = edit.span
        cell = source.cell(span.line)
        if cell is not source.cell(span.end_line):
            return None
        if cell is not None:
            back = cell.start - 1
            span = SourceSpan(span.line - back, span.column, span.end_line - back, span.end_column, cell.number)
        found.append(Edit(span, edit.text))
    return tuple(found)


def together(message: str, edits: Iterable[Edit | None]) -> Fix | None:
    """A fix of these edits; None where one of them cannot be made."""
    made = tuple(edits)
    return None if None in made else Fix(message, tuple(edit for edit in made if edit is not None))


def replace(source: SourceFile, node: ast.AST, text: str) -> Edit:
    """Put something in the place of a node."""
    return Edit(where(source, node), text)


def before(source: SourceFile, node: ast.AST, text: str) -> Edit:
    """Put something before a node."""
    span = where(source, node)
    return Edit(SourceSpan(span.line, span.column, span.line, span.column), text)


def after(source: SourceFile, node: ast.AST, text: str) -> Edit:
    """Put something behind a node."""
    span = where(source, node)
    return Edit(SourceSpan(span.end_line, span.end_column, span.end_line, span.end_column), text)


def line_below(source: SourceFile, statement: ast.stmt, text: str) -> Edit | None:
    """Put a line below a statement, as far in; None where something else stands on the statement's line."""
    if not alone(source, statement):
        return None
    last = statement.end_lineno or statement.lineno
    end = len(source.line(last)) + 1
    return Edit(SourceSpan(last, end, last, end), f"\n{indent_of(source, statement)}{text}")


def line_above(source: SourceFile, statement: ast.stmt, text: str) -> Edit | None:
    """Put a line above a statement, as far in; None where something else stands before it on its line."""
    if source.line(statement.lineno)[: where(source, statement).column - 1].strip():
        return None
    return before(source, statement, f"{text}\n{indent_of(source, statement)}")


def import_batchproof(source: SourceFile) -> Edit | None:
    """Below the imports that the file begins with; above the first statement where it has none."""
    imports: list[ast.stmt] = []
    for statement in source.tree.body:
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            imports.append(statement)
        elif not is_text or imports:
            break
    if imports:
        return line_below(source, imports[-1], "import batchproof")
    first = source.tree.body[0]
    if isinstance(first, ast.Expr) or getattr(first, "decorator_list", None):
        return None
    return Edit(SourceSpan(first.lineno, 1, first.lineno, 1), "import batchproof\n\n")


def without(source: SourceFile, statement: ast.stmt) -> Edit | None:
    """Take a statement's lines away; None where they hold anything else."""
    first, last = statement.lineno, statement.end_lineno or statement.lineno
    if not alone(source, statement) or source.line(last)[where(source, statement).end_column - 1 :].strip():
        return None
    if last >= len(source.lines):
        return None
    return Edit(SourceSpan(first, 1, last + 1, 1), "")


def alone(source: SourceFile, statement: ast.stmt) -> bool:
    """Whether a statement has its lines for itself, but for a comment."""
    span = where(source, statement)
    head, tail = source.line(span.line)[: span.column - 1], source.line(span.end_line)[span.end_column - 1 :]
    return not head.strip() and (not tail.strip() or tail.lstrip().startswith("#"))


def indent_of(source: SourceFile, statement: ast.stmt) -> str:
    """What a statement's line begins with."""
    text = source.line(statement.lineno)
    return text[: len(text) - len(text.lstrip())]


def text_of(source: SourceFile, node: ast.AST) -> str:
    """A node as it is written."""
    span = where(source, node)
    if span.line == span.end_line:
        return source.line(span.line)[span.column - 1 : span.end_column - 1]
    middle = [source.line(line) for line in range(span.line + 1, span.end_line)]
    return "\n".join(
        [source.line(span.line)[span.column - 1 :], *middle, source.line(span.end_line)[: span.end_column - 1]]
    )


def where(source: SourceFile, node: ast.AST) -> SourceSpan:
    """Where a node stands in the text that was parsed."""
    first, offset = node.lineno, node.col_offset  # type: ignore[attr-defined]
    last, end = node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]
    return SourceSpan(first, source.column(first, offset), last, source.column(last, end))


def with_brackets(source: SourceFile, node: ast.AST) -> SourceSpan:
    """Where a node stands, with the round brackets directly around it, as around the right side of a division."""
    span = where(source, node)
    left, right = source.line(span.line)[: span.column - 1], source.line(span.end_line)[span.end_column - 1 :]
    if not (left.rstrip().endswith("(") and right.lstrip().startswith(")")):
        return span
    opening = len(left.rstrip()) - 1
    if not left[:opening].rstrip().endswith(("/", "/=")):  # a call's brackets, or a group's around more than this
        return span
    closing = span.end_column + len(right) - len(right.lstrip()) + 1
    return SourceSpan(span.line, opening + 1, span.end_line, closing)


def _starts(text: str) -> list[int]:
    return [0, *(found.end() for found in NEWLINE.finditer(text))]


def _position(span: SourceSpan) -> tuple[int, int, int]:
    return span.cell or 0, span.line, span.column
