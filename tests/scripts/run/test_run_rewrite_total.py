"""Rewriting is total: whatever stands in a file, what comes out is Python, and without our calls it is what went in."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import os
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batchproof.scripts.run.registry import NAME, Registry, RewrittenFile
from batchproof.scripts.run.rewrite import rewrite
from batchproof.scripts.source import (
    Added,
    Average,
    AverageSite,
    Divisor,
    EpochLoop,
    Loader,
    Phase,
    Quantity,
    Script,
    Weight,
    find,
)

LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
#: Every so many files of the standard library and of what is installed; set to 1 for all of them.
EVERY = int(os.environ.get("BATCHPROOF_REWRITE_EVERY", "400"))
LONGEST = 20_000 if EVERY > 1 else 1_000_000


class _Without(ast.NodeTransformer):
    """Takes all that is ours out of a tree."""

    def visit_Call(self, node: ast.Call) -> Any:
        return self.visit(node.args[-1]) if _is_ours(node) else self.generic_visit(node)

    visit_Kept = visit_Call

    def visit_Expr(self, node: ast.Expr) -> Any:
        is_added = _is_ours(node.value) and not hasattr(node, "original")
        return None if is_added else self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        node.ifs = [each for each in node.ifs if not (_is_ours(each) and each.func.attr == "stepped")]  # type: ignore[attr-defined]
        return self.generic_visit(node)


def _is_ours(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(getattr(node.func, "value", None), "id", "") == NAME


def rewritten(text: str, script: Script | None, tree: ast.Module, report: str | None = None) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            node.original = True  # type: ignore[attr-defined]
    source = RewrittenFile("file.py", text.splitlines(), {})
    rewrite(tree, script if script is not None else find(tree), source, Registry(), report)
    return tree


def unchanged(text: str, tree: ast.Module) -> None:
    """It compiles, and nothing but measurement changed."""
    compile(tree, "file.py", "exec", dont_inherit=True)
    assert ast.dump(_Without().visit(tree), include_attributes=True) == ast.dump(
        ast.parse(text), include_attributes=True
    )


def wild(tree: ast.Module, seed: int = 0, share: float = 1.0) -> Script:
    """Sites that no file would have: any expression is added in any loop, any statement begins, anything is read."""
    draw = random.Random(seed)
    nodes = list(ast.walk(tree))
    loops: list[Any] = [node for node in nodes if isinstance(node, LOOPS)]
    exprs = [node for node in nodes if isinstance(node, ast.expr) and hasattr(node, "lineno")]
    statements = [node for node in nodes if isinstance(node, ast.stmt)]

    def sites() -> Iterator[AverageSite]:
        for number, added in enumerate(exprs):
            if not loops or draw.random() > share:
                continue
            loop = EpochLoop(draw.choice(loops), Loader(None), draw.choice(list(Phase)))
            weight = draw.choice(exprs)
            averages = [Average(draw.choice([*exprs, *statements]), Divisor.BATCHES) for _ in range(2)]
            yield AverageSite(
                f"site{number}",
                loop,
                draw.choice(statements),
                Added(added, Quantity.MEAN, weight=Weight.OTHER, weight_node=weight),
                starts=(draw.choice(statements),),
                averages=tuple(averages),
            )

    return Script(tuple(sites()))


def _files() -> list[Path]:
    folders = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [path for path in found if path.stat().st_size < LONGEST][::EVERY]


def test_real_files_mean_the_same_when_they_are_rewritten() -> None:
    tried = 0
    for path in _files():
        text = _text(path)
        if text is not None:
            tree = ast.parse(text)
            unchanged(text, rewritten(text, None, tree, report="loss"))
            tried += 1
    assert tried > 10


def test_whatever_is_asked_of_a_file_it_stays_python() -> None:
    tried = 0
    for number, path in enumerate(_files()):
        text = _text(path)
        if text is not None:
            tree = ast.parse(text)
            unchanged(text, rewritten(text, wild(tree, number, 0.2), tree, report="x"))
            tried += 1
    assert tried > 10


def _text(path: Path) -> str | None:
    """Its text; None where Python itself cannot read it."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        text = path.read_bytes().decode("utf-8")
        compile(text, "file.py", "exec", dont_inherit=True)
        return text.removeprefix("\ufeff")
    return None


CONSTRUCTS = '''\
"""A docstring."""
from __future__ import annotations
import asyncio, functools, contextlib

log = []

def say(*what, **more):
    log.append((what, sorted(more.items())))
    return what[0] if what else None

slots = [0.0] * 4
table: dict[str, list] = {}
noted: int
other: "a name that is nowhere" = 3
for i, (a, *rest) in enumerate([(1, 2, 3), (4, 5)]):
    slots[i] = a + len(rest)
    table.setdefault("k", []).append(a)
    slots[say(i)] += 1
    (slots[0], slots[-1]) = slots[-1], slots[0]
    if (n := a * 2) > 3 and (m := n):
        say(n, m, key=f"{n!r:>{4}} {a=} {'x' if a else 'y'}")
    else:
        del rest
say(slots, table, slots[1:3], slots[::2])

class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args)

class Slot(metaclass=Meta):
    __slots__ = ("x", "reads")
    kinds = [k for k in range(3)]
    total = 0
    for k in range(3):
        total += k
    def __init__(self):
        super().__init__()
        self.reads = 0
        self.x = 1
    @property
    def seen(self):
        self.reads += 1
        return self.reads
    @staticmethod
    def double(v): return v * 2
    @classmethod
    def make(cls): return cls()
    def inner(self):
        def within():
            self = 3
            for _ in range(2):
                self += 1
            return self
        return within(), [self.x for _ in range(2)], __class__.__name__

slot = Slot.make()
for slot.x in range(3):
    slot.x += slot.seen
say(slot.x, slot.reads, Slot.kinds, Slot.total, slot.inner(), Slot.double(2))

def counter():
    count = 0
    def add(by=1, /, *, twice=False):
        nonlocal count
        global last
        for _ in range(2 if twice else 1):
            count += by
        last = count
        return count
    return add

add = counter()
say(add(), add(2, twice=True), last)

def generate(n):
    got = 0
    for i in range(n):
        got = (yield i + (got or 0)) or got
    yield from (x for x in range(2) if x)
    return got

g = generate(3)
say(next(g), g.send(5), list(g))

def matched(v):
    match v:
        case {"k": [first, *others], **left}: return first, others, left
        case Slot(x=1 | 2 | 3 as found): return found
        case (int() | float()) as number if number > 1: return -number
        case [1, 2, *_]: return "list"
        case "a" | None: return "constant"
        case _: return "rest"

for v in ({"k": [1, 2], "z": 3}, slot, 2.5, [1, 2, 3], None, 0):
    say(matched(v))

async def agen():
    for i in range(3):
        yield i
        await asyncio.sleep(0)

@contextlib.asynccontextmanager
async def entered():
    yield 5

async def main():
    total = 0
    async for i in agen():
        total += i
    async with entered() as five, entered() as again:
        total += five + again
    await asyncio.sleep(0, 1)
    return total, [i async for i in agen() if i], {i: j async for i in agen() for j in range(i)}

say(asyncio.run(main()))

@functools.wraps(say)
@(lambda f: f)
def decorated(f=lambda x, *y, z=1, **k: (x, y, z, k)):
    return f(*[1, 2], **{"z": 3, "w": 4})

say(decorated(), *[1, 2], **{"q": decorated.__name__})
exec("made = [w for w in range(3)]\\nsay(made)")
say(eval("len(made) + sum(i for i in made)"), sorted(k for k in locals() if k.startswith("ma")))
for k in range(5):
    if k == 1: continue
    if k == 3: break
else:
    say("never")
while slots:
    slots.pop()
else:
    say("emptied")
try:
    try:
        raise ValueError(1)
    except ValueError as error:
        raise KeyError(2) from error
except (KeyError, TypeError) as error:
    say(repr(error), repr(error.__cause__), error.__traceback__.tb_lineno)
finally:
    say("finally")
with contextlib.suppress(ZeroDivisionError), contextlib.nullcontext([1, 2]) as (one, two):
    say(one, two); 1 / 0
try:
    raise ExceptionGroup("g", [ValueError(1), OSError(2)])
except* ValueError as group:
    say(len(group.exceptions))
except* OSError:
    pass
assert (lambda: (yield))().send(None) is None
x = y = z = 1 < 2 < 3 != 4
x, (y, *z) = 1, (2, 3, 4)
lists = [[a * b for a in range(b) if a if b] for b in range(4)]
say(x, y, z, lists, {**{"a": 1}, "b": 2}, {*z}, -x, not x, ~x, x if y else z, 1_000, b"b", 2j, ...)
'''


def _output(code: Any) -> Any:
    names: dict[str, Any] = {"__name__": "somewhere"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    return (
        names["log"],
        names["Slot"].__annotations__ if hasattr(names["Slot"], "__annotations__") else {},
        names["__annotations__"],
    )


class _Passing:
    """In place of the recorder: hands each value on."""

    def __getattr__(self, method: str) -> Any:
        return (lambda *values: True) if method == "stepped" else (lambda *values: values[-1])


@pytest.mark.parametrize("seed", range(12))
def test_every_construct_does_the_same_with_all_of_it_measured(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ast.parse(CONSTRUCTS)
    tree = rewritten(CONSTRUCTS, wild(tree, seed, 1.0 if seed == 0 else 0.3), tree, report="x")
    monkeypatch.setattr(builtins, NAME, _Passing(), raising=False)
    assert _output(compile(tree, "file.py", "exec", dont_inherit=True)) == _output(
        compile(CONSTRUCTS, "file.py", "exec", dont_inherit=True)
    )
    unchanged(CONSTRUCTS, tree)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
def test_type_parameters_stay_as_they_are() -> None:
    text = "type A[T: int] = list[T]\ndef f[T: (int, str)](x: T) -> T:\n    for y in x:\n        x += y\n    return x\n"
    tree = ast.parse(text)
    unchanged(text, rewritten(text, wild(tree), tree, report="x"))


def test_a_function_that_another_compiler_reads_stays_as_it_is() -> None:
    text = "@numba.njit(cache=True)\ndef f(x):\n    t = 0\n    for y in x:\n        t += y\n    return t / len(x)\n"
    tree = ast.parse(text)
    assert ast.dump(rewritten(text, wild(tree), tree, report="t")) == ast.dump(ast.parse(text))


def test_what_cannot_be_rewritten_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from batchproof.scripts.run import session
    from running import run

    deep = " + ".join(["1"] * 900)  # Python compiles it, and a walk over its tree does not come to the end
    found, printed = run(tmp_path, f"print({deep})\n", head=False)
    assert printed == "900\n"

    monkeypatch.setattr(session, "rewrite", lambda *_: SimpleNamespace().nothing)
    found, printed = run(tmp_path, "for i in range(2):\n    print(i)\n", head=False)
    assert printed == "0\n1\n"
    assert "runs as it is" in found.notes[0]


def test_a_compiled_function_of_the_script_is_compiled_as_ever(tmp_path: Path) -> None:
    from running import run

    found, printed = run(
        tmp_path,
        """
        @torch.compile(fullgraph=True, backend="eager")
        def compute_loss(net, a, b):
            pred = net(a)
            loss = ((pred - b) ** 2).mean()
            return loss

        def single(weight, a, b):
            out = a @ weight
            loss = ((out - b) ** 2).mean()
            return loss

        total, other = 0.0, 0.0
        for a, b in loader:
            total += compute_loss(model, a, b).item()
            each = torch.vmap(lambda a, b: single(model.weight.T, a[None], b[None]))(a, b)
            other += torch.func.grad(single)(model.weight.detach().T, a, b).sum().item() + each.mean().item()
        print(total / len(loader) > 0, other / len(loader) != 0)
        """,
    )
    assert (found.failed, printed) == ("", "True True\n")
