"""What a way back from an added value has found, and the function that is made of it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchproof.scripts.run.nodes import at, renumbered
from batchproof.scripts.run.registry import RewrittenFile

#: In a function: how many samples the batch has.
COUNT = "_count"


@dataclass
class Backtrace:
    """What a way back has found so far.

    Attributes:
        steps: expressions whose values lead on to the result, in order, each with the point at which it was kept.
        arguments: by such a point, the names of what the function takes.
        fixed: by such a point, values that must be the same for every batch.
        known: what was found for a point.
        model: whether a value came out of a model.
        own: whether a function of the script is called again.
        sources: for a name that is the same wherever it is read, its file.
        count: how many samples the batch has, where that is asked for.
    """

    steps: list[tuple[int, ast.expr]] = field(default_factory=list)
    arguments: dict[int, str] = field(default_factory=dict)
    fixed: dict[int, Any] = field(default_factory=dict)
    known: dict[int, ast.expr] = field(default_factory=dict)
    model: bool = False
    own: bool = False
    sources: dict[str, RewrittenFile] = field(default_factory=dict)
    count: int | None = None

    def copy(self) -> Backtrace:
        return Backtrace(
            list(self.steps), dict(self.arguments), dict(self.fixed), dict(self.known), self.model, self.own,
            dict(self.sources), self.count,
        )  # fmt: skip

    def forget_unused(self, result: ast.expr) -> None:
        """Let go of fixed values that no step needs any more: another batch may have others."""
        used = {
            node.id
            for expression in (result, *(step for _, step in self.steps))
            for node in ast.walk(expression)
            if isinstance(node, ast.Name)
        }
        self.fixed = {index: value for index, value in self.fixed.items() if f"_fixed{index}" in used}


def made(way: Backtrace, result: ast.expr, source: RewrittenFile) -> tuple[Callable[..., Any], str]:
    """The steps as a function, and its text."""
    body: list[ast.stmt] = [
        at(ast.Assign([ast.Name(f"_value{index}", ast.Store())], expression), expression)
        for index, expression in way.steps
    ]
    if way.count is not None:
        body.insert(0, ast.parse(f"{COUNT} = {next(iter(way.arguments.values()))}.shape[0]").body[0])
    body.append(at(ast.Return(result), result))
    taken = [ast.arg(name) for name in way.arguments.values()]
    arguments = ast.arguments(posonlyargs=[], args=taken, kwonlyargs=[], kw_defaults=[], defaults=[])
    function = ast.FunctionDef(name="value", args=arguments, body=body, decorator_list=[])
    module = ast.fix_missing_locations(ast.Module([function], []))
    text = renumbered(module)
    names: dict[str, Any] = {f"_fixed{index}": value for index, value in way.fixed.items()}
    for name, home in way.sources.items():
        if name in home.names:
            names.setdefault(name, home.names[name])
    exec(compile(module, source.file, "exec", dont_inherit=True), names)
    return names["value"], text
