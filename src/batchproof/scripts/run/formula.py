"""What a batch adds, as a function of some of the values that a loop computed: its steps, and the code made of them."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchproof.scripts.run.registry import NAME, Kept, RewrittenFile
from batchproof.scripts.run.trace import Attribute


class Unmeasured(Exception):
    """Why there is no function to measure, as half a sentence."""


@dataclass
class Formula:
    """What a batch adds, as a function of some of the values that were kept.

    Attributes:
        numbers: the expressions that were evaluated on the way, in order: a batch that has the same is of this formula.
        arguments: where the function's arguments are among the kept values.
        fixed: where values are that must be the same for every batch, and what they are.
        function: the function.
        text: its body; two formulas of one text and the same fixed values are one function.
        names: the arguments as the script has them.
        uses_model: whether one of them came out of a model.
        is_sum: whether the value of a batch taken twice is twice its value; None before that was tried.
        broadcasts: the shapes (B, 1) and (B,) of arguments that meet each other; None before that was tried.
        ordered: whether the order of the samples counts; None before that was tried.
        pair_bytes: bytes that a call makes for each pair of samples; None before that was tried.
        expressions: what gives single numbers on the way, each at its place in the source.
        source: the file that it was read from.
    """

    numbers: list[int]
    arguments: tuple[int, ...]
    fixed: tuple[tuple[int, Any], ...]
    function: Callable[..., Any]
    text: str
    names: tuple[str, ...] = ()
    uses_model: bool = False
    is_sum: bool | None = None
    broadcasts: str | None = None
    ordered: bool | None = None
    pair_bytes: float | None = None
    expressions: tuple[ast.expr, ...] = ()
    source: RewrittenFile | None = None


def same_function(one: Formula, other: Formula) -> bool:
    """Whether two formulas compute the same from their arguments."""
    return one.text == other.text and all(
        a is b or (isinstance(a, (int, float, str)) and a == b)
        for (_, a), (_, b) in zip(one.fixed, other.fixed, strict=True)
    )


def unwrapped(node: ast.expr) -> ast.expr:
    """Without our own calls around it, a kept expression aside."""
    while isinstance(node, ast.Call) and not isinstance(node, Kept) and is_ours(node):
        node = node.args[-1]
    return node


def is_ours(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == NAME


def bare(node: ast.AST) -> ast.AST:
    """The expression as the script has it."""
    return _Bare().visit(copy.deepcopy(node))  # type: ignore[no-any-return]


class _Bare(ast.NodeTransformer):
    """Takes our own calls off again."""

    def visit_Kept(self, kept: Kept) -> Any:
        """The expression inside."""
        return self.visit(kept.inner)

    def visit_Call(self, call: ast.Call) -> Any:
        """The expression inside, where the call is ours."""
        return self.visit(call.args[-1]) if is_ours(call) else self.generic_visit(call)


def is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def is_load(node: ast.expr) -> bool:
    return isinstance(node, (ast.Name, ast.Attribute, ast.Subscript))


def named(name: str, near: ast.AST) -> ast.expr:
    """A variable of the function."""
    return ast.copy_location(ast.Name(name, ast.Load()), near)


def at(node: Any, near: ast.AST) -> Any:
    return ast.copy_location(node, near)


def walk(found: ast.expr, path: tuple[Any, ...]) -> ast.expr:
    for step in path:
        near = found
        if isinstance(step, Attribute):
            found = at(ast.Attribute(found, str(step), ast.Load()), near)
        elif isinstance(step, (str, int)):
            found = at(ast.Subscript(found, ast.Constant(step), ast.Load()), near)
        else:
            raise Unmeasured("a value lies in a table whose keys are no names")
    return found


def renumbered(module: ast.Module) -> str:
    """The function's text, whatever the points at which its values were kept."""
    numbers: dict[str, str] = {}
    for node in ast.walk(module):
        name = getattr(node, "id", getattr(node, "arg", None))
        if isinstance(name, str) and name.startswith(("_value", "_argument", "_fixed")):
            numbers.setdefault(name, f"{name.rstrip('0123456789')}_{len(numbers)}")
    copied = copy.deepcopy(module)
    for node in ast.walk(copied):
        for part in ("id", "arg"):
            if getattr(node, part, None) in numbers:
                setattr(node, part, numbers[getattr(node, part)])
    return ast.unparse(copied)


#: In a function: how many samples the batch has.
COUNT = "_count"
#: Makes of a metric object a function.
WITHOUT_STATE = "_without_state"


def without_state(metric: Any) -> Callable[..., Any]:
    """What a metric object gives for a batch, as if it had seen no other."""

    def score(*args: Any, **kwargs: Any) -> Any:
        new = metric.clone()
        for each in new.values() if hasattr(new, "values") else [new]:
            each.sync_on_compute = False  # the other processes are not here
        new.reset()
        new.update(*args, **kwargs)
        return new.compute()

    return score


@dataclass
class Backtrace:
    """What the way back from an added value has found so far.

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


def compile_steps(backtrace: Backtrace, result: ast.expr, source: RewrittenFile) -> tuple[Callable[..., Any], str]:
    """The steps as a function, and its text."""
    body: list[ast.stmt] = [
        at(ast.Assign([ast.Name(f"_value{index}", ast.Store())], expression), expression)
        for index, expression in backtrace.steps
    ]
    if backtrace.count is not None:
        body.insert(0, ast.parse(f"{COUNT} = {next(iter(backtrace.arguments.values()))}.shape[0]").body[0])
    body.append(at(ast.Return(result), result))
    taken = [ast.arg(name) for name in backtrace.arguments.values()]
    arguments = ast.arguments(posonlyargs=[], args=taken, kwonlyargs=[], kw_defaults=[], defaults=[])
    function = ast.FunctionDef(name="value", args=arguments, body=body, decorator_list=[])
    module = ast.fix_missing_locations(ast.Module([function], []))
    text = renumbered(module)
    names: dict[str, Any] = {f"_fixed{index}": value for index, value in backtrace.fixed.items()}
    names[WITHOUT_STATE] = without_state
    for name, home in backtrace.sources.items():
        if name in home.names:
            names.setdefault(name, home.names[name])
    exec(compile(module, source.file, "exec", dont_inherit=True), names)
    return names["value"], text
