"""One pass over a file: what it imports and defines, what its command line defaults to, what each loop's body mentions.

Everything after this asks the index instead of walking the tree again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from batchproof.scripts.source.name_tables import name_set

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
LoopNode = ast.For | ast.AsyncFor | ast.While
#: What goes over something, and binds its items.
Iteration = ast.For | ast.AsyncFor | ast.comprehension


@dataclass
class Mentions:
    """What the body of a loop or a function mentions, nested loops counted apart.

    Attributes:
        names: names and attributes that are read in the body itself.
        calls: the last names of what is called there.
        all_calls: the last names of what is called there and in nested loops; of a function only.
        takes_by: names that something is indexed with, or that a call other than a report is given, here or deeper.
        cuts: the bounds of slices, as ``data[i * size : (i + 1) * size]``, here or deeper.
        rows: names that are indexed with a name alone, as ``labels[i]``, with that name; here or deeper.
        computed: names that are set from other names, as ``start = i * size``, with these; here or deeper.
        moduli: what a remainder is taken by, as ``if (i + 1) % steps == 0``; here or deeper.
        windows: those of them that an optimizer's step waits for, here or deeper.
        adds: something is added to something in it, here or deeper.
        loops: there is a loop or a comprehension in it.
        rolls_out: an environment is stepped in it, here or deeper: ``obs, reward, done = env.step(action)``.
    """

    names: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    all_calls: set[str] = field(default_factory=set)
    takes_by: set[str] = field(default_factory=set)
    cuts: list[ast.Slice] = field(default_factory=list)
    rows: set[tuple[str, str]] = field(default_factory=set)
    computed: list[tuple[set[str], set[str]]] = field(default_factory=list)
    moduli: set[str] = field(default_factory=set)
    windows: set[str] = field(default_factory=set)
    adds: bool = False
    loops: bool = False
    rolls_out: bool = False

    def cuts_by(self, names: set[str]) -> bool:
        """Whether a slice begins and ends where these names say: ``x[i:i + n]``, ``j = i + n; x[i:j]``."""
        names = set(names)
        for _ in range(3):
            for targets, sources in self.computed:
                if sources & names:
                    names |= targets
        return any(
            cut.lower is not None
            and cut.upper is not None
            and names_in(cut.lower) & names
            and names_in(cut.upper) & names
            for cut in self.cuts
        )


@dataclass
class Index:
    """What one pass over a file found.

    Attributes:
        imports: local name to dotted path.
        arguments: the defaults of ``add_argument("--batch-size", default=16)`` by destination.
        functions: the functions at the top of the file by name, the last of each name.
        classes: the classes at the top of the file by name.
        of_class: the methods of each class by name, by the class's node.
        mentions: by the node of a loop or function.
        keyed: by function (or module) node: names that are subscripted with a text, or given as ``**name``.
        assigned: by class node: ``self.name = value`` in its methods.
        loaded: by function (or module) node: names that are read in it.
        rolls_out: an environment is stepped: ``obs, reward, done = env.step(action)``.
        words: every name, attribute and imported name of the file.
        read_off: by the last name of an object: what is read off it, and called on it.
        functions_by_name: all functions and methods, nested ones too.
        nested: the functions and classes in the order of their lines, with the class that they are a method of.
    """

    imports: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, object] = field(default_factory=dict)
    functions: dict[str, FunctionNode] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    methods: dict[ast.ClassDef, dict[str, FunctionNode]] = field(default_factory=dict)
    mentions: dict[ast.AST, Mentions] = field(default_factory=dict)
    keyed: dict[ast.AST, set[str]] = field(default_factory=dict)
    assigned: dict[ast.ClassDef, dict[str, list[ast.expr]]] = field(default_factory=dict)
    loaded: dict[ast.AST, set[str]] = field(default_factory=dict)
    rolls_out: bool = False
    words: set[str] = field(default_factory=set)
    read_off: dict[str, set[str]] = field(default_factory=dict)
    functions_by_name: dict[str, list[FunctionNode]] = field(default_factory=dict)
    nested: list[tuple[FunctionNode, ast.ClassDef | None]] = field(default_factory=list)

    def lineage(self, definition: ast.ClassDef | None) -> list[ast.ClassDef]:
        """A class, the first of its bases that stands in the file, that one's, and so on."""
        classes: list[ast.ClassDef] = []
        while definition is not None and definition not in classes:
            classes.append(definition)
            bases = (base.id for base in definition.bases if isinstance(base, ast.Name))
            definition = next((self.classes[base] for base in bases if base in self.classes), None)
        return classes

    def is_read(self, name: str, function: ast.AST) -> bool:
        """Whether a function may read one of its names: itself, one in it, or by ``locals()``."""
        inside = [function, *(inner for inner in ast.walk(function) if isinstance(inner, FunctionNode | ast.Lambda))]
        names = set[str]().union(*(self.loaded.get(part, set()) for part in inside))
        shared = any(isinstance(part, (ast.Global, ast.Nonlocal)) and name in part.names for part in ast.walk(function))
        return name in names or "locals" in names or "vars" in names or shared


def last_word(node: ast.AST | None) -> str:
    """``c`` of ``a.b.c``; "" of what is not a name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def names_in(*nodes: ast.AST) -> set[str]:
    """The names in some expressions."""
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def as_written(node: ast.AST | None) -> str:
    """An expression as text; "" where there is none."""
    return ast.unparse(node) if node is not None else ""


def callee_of(node: ast.AST | None) -> str:
    """The last word of what a call calls; "" of what is no call."""
    return last_word(node.func) if isinstance(node, ast.Call) else ""


def builtin_of(node: ast.AST | None) -> str:
    """The bare name that a call calls, as ``zip``; "" of another call, and of what is no call."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def argument_of(node: ast.Call, place: int, *names: str) -> ast.expr | None:
    """An argument as written, by its place or by one of its names."""
    if len(node.args) > place:
        return node.args[place]
    return next((keyword.value for keyword in node.keywords if keyword.arg in names), None)


def build_index(tree: ast.Module) -> Index:
    found = Index()
    _Pass(found, tree).run()
    return found


_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ADDERS = name_set(
    """
    append update add add_ extend log log_dict send put add_loss track record accumulate
    add_scalar collect set_postfix
    """
)


_REPORTS = name_set(
    """
    print info log debug warning write add_scalar add_scalars format set_description set_postfix log_metric
    set_postfix_str display str int float round save append
    """
)


def _steps_environment(call: ast.Call, target: ast.expr) -> bool:
    """``obs, reward, done, info = env.step(action)``; an optimizer's step returns one value, of a closure."""
    if callee_of(call) != "step" or isinstance(call.args[0], ast.Lambda):
        return False
    return "env" in ast.unparse(call.func).lower() or isinstance(target, ast.Tuple)


def _moduli_in(node: ast.AST) -> set[str]:
    """What remainders are taken by."""
    return {ast.unparse(part.right) for part in ast.walk(node) if isinstance(part, ast.BinOp) and _is_remainder(part)}


def _is_remainder(node: ast.BinOp) -> bool:
    """``i % steps``; not the text ``"%d" % n``."""
    return isinstance(node.op, ast.Mod) and not isinstance(node.left, (ast.Constant, ast.JoinedStr))


@dataclass(frozen=True)
class _Around:
    """What a node stands in: a function (or the module), a class, and the bodies of loops, the innermost first."""

    function: ast.AST
    owner: ast.ClassDef | None
    bodies: tuple[Mentions, ...]

    def note(self, what: str) -> None:
        """Note of all bodies that there is such a thing in them, here or deeper."""
        for body in self.bodies:
            setattr(body, what, True)

    def takes(self, nodes: Iterable[ast.AST]) -> None:
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        for body in self.bodies:
            body.takes_by |= names


class _Pass:
    """An explicit stack rather than recursion: it is faster, and no tree is too deep for it."""

    def __init__(self, found: Index, tree: ast.Module) -> None:
        self.found = found
        self.tree = tree
        self.held: dict[str, ast.expr] = {}  # what names were set to last: `last = (i + 1) % steps == 0`
        self.stack: list[tuple[ast.AST, _Around]] = []

    def run(self) -> None:
        outermost = self.found.mentions[self.tree] = Mentions()
        self.found.keyed[self.tree] = set()
        self.push(reversed(self.tree.body), _Around(self.tree, None, (outermost,)))
        while self.stack:
            self.visit(*self.stack.pop())

    def push(self, nodes: Iterable[ast.AST], around: _Around) -> None:
        self.stack.extend((node, around) for node in nodes)

    def visit(self, node: ast.AST, around: _Around) -> None:
        if isinstance(node, ast.Name):
            around.bodies[0].names.add(node.id)
            self.found.words.add(node.id)
            if isinstance(node.ctx, ast.Load):
                self.found.loaded.setdefault(around.function, set()).add(node.id)
        elif isinstance(node, ast.Attribute):
            around.bodies[0].names.add(node.attr)
            self.found.words.add(node.attr)
            last = last_word(node.value)
            if last:
                self.found.read_off.setdefault(last, set()).add(node.attr)
            self.stack.append((node.value, around))
        elif isinstance(node, _FUNCTIONS):
            self.function(node, around)
        elif isinstance(node, ast.ClassDef):
            self.class_(node, around)
        elif isinstance(node, _LOOPS):
            self.loop(node, around)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self.imported(node)
        elif not isinstance(node, ast.Constant):
            self.plain(node, around)
            self.push(ast.iter_child_nodes(node), around)

    def plain(self, node: ast.AST, around: _Around) -> None:
        if isinstance(node, ast.Call):
            self.call(node, around)
        elif isinstance(node, ast.AugAssign):
            around.note("adds")
        elif isinstance(node, ast.Assign):
            self.assign(node, around)
        elif isinstance(node, ast.Subscript):
            self.subscript(node, around)
        elif isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.Mult):
                around.takes((node.left, node.right))
            elif _is_remainder(node):
                for body in around.bodies:
                    body.moduli.add(ast.unparse(node.right))
        elif isinstance(node, ast.If):
            self.branch(node, around)
        elif isinstance(node, _COMPREHENSIONS):
            around.note("loops")

    def branch(self, node: ast.If, around: _Around) -> None:
        """``if (i + 1) % steps == 0: optimizer.step()``, also where a name holds whether it is so."""
        held = (self.held[name] for name in names_in(node.test) if name in self.held)
        texts = _moduli_in(node.test).union(*map(_moduli_in, held))
        if texts and any(callee_of(part) == "step" for inner in node.body for part in ast.walk(inner)):
            for body in around.bodies:
                body.windows |= texts

    def subscript(self, node: ast.Subscript, around: _Around) -> None:
        """``data[i:j]`` and ``labels[i]``, and ``batch["labels"]``."""
        if isinstance(node.slice, ast.Constant):
            if isinstance(node.value, ast.Name) and isinstance(node.slice.value, str):
                self.found.keyed[around.function].add(node.value.id)
            return
        around.takes(ast.walk(node.slice))
        keys = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        base = last_word(node.value)
        for body in around.bodies:
            body.cuts += [key for key in keys if isinstance(key, ast.Slice)]
            if base and isinstance(node.slice, ast.Name):
                body.rows.add((base, node.slice.id))

    def function(self, node: FunctionNode, around: _Around) -> None:
        found, owner = self.found, around.owner
        found.nested.append((node, owner))
        found.functions_by_name.setdefault(node.name, []).append(node)
        if owner is not None and node in owner.body:
            found.methods[owner][node.name] = node
        elif around.function is self.tree:
            found.functions[node.name] = node
        inner = found.mentions[node] = Mentions()
        found.keyed[node] = set()
        self.push(reversed(node.body), _Around(node, owner, (inner,)))
        defaults = (default for default in node.args.kw_defaults if default is not None)
        self.push((*node.decorator_list, *node.args.defaults, *defaults), replace(around, owner=None))

    def class_(self, node: ast.ClassDef, around: _Around) -> None:
        self.found.classes.setdefault(node.name, node)
        self.found.methods[node] = {}
        self.found.assigned[node] = {}
        self.push(reversed(node.body), replace(around, owner=node))
        self.push((*node.bases, *node.decorator_list), around)

    def loop(self, node: LoopNode, around: _Around) -> None:
        around.note("loops")
        inner = self.found.mentions[node] = Mentions()
        self.push(reversed([*node.body, *node.orelse]), replace(around, bodies=(inner, *around.bodies)))
        self.push((node.test,) if isinstance(node, ast.While) else (node.iter, node.target), around)

    def call(self, node: ast.Call, around: _Around) -> None:
        name = callee_of(node)
        around.bodies[0].calls.add(name)
        around.bodies[-1].all_calls.add(name)
        if name not in _REPORTS:
            around.takes(node.args)
        if name in _ADDERS:
            around.note("adds")
        elif name == "add_argument":
            self.argument(node)
        for keyword in node.keywords:
            if keyword.arg is None and isinstance(keyword.value, ast.Name):
                self.found.keyed[around.function].add(keyword.value.id)

    def assign(self, node: ast.Assign, around: _Around) -> None:
        if isinstance(node.value, ast.BinOp) or isinstance(node.targets[0], ast.Subscript):
            around.note("adds")
        call = node.value
        if isinstance(call, ast.Call) and call.args and _steps_environment(call, node.targets[0]):
            self.found.rolls_out = True
            around.note("rolls_out")
        targets, sources = names_in(*node.targets), names_in(node.value)
        if isinstance(node.value, (ast.Compare, ast.BoolOp, ast.BinOp)):
            self.held.update(dict.fromkeys(targets, node.value))
        for body in around.bodies:
            body.computed.append((targets, sources))
        for target in node.targets:
            if around.owner is not None and isinstance(target, ast.Attribute) and last_word(target.value) == "self":
                self.found.assigned[around.owner].setdefault(target.attr, []).append(node.value)

    def imported(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            if isinstance(node, ast.Import):
                self.found.imports[name] = alias.name if alias.asname else alias.name.split(".")[0]
            else:
                self.found.imports[name] = f"{node.module or ''}.{alias.name}"
            self.found.words.add(alias.name)

    def argument(self, node: ast.Call) -> None:
        """``add_argument("--batch-size", default=16)``."""
        flags = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if not flags:
            return
        name = next((f for f in flags if f.startswith("--")), flags[0]).lstrip("-").replace("-", "_")
        default: object = None
        for keyword in node.keywords:
            if keyword.arg == "dest" and isinstance(keyword.value, ast.Constant):
                name = str(keyword.value.value)
            elif keyword.arg == "default" and isinstance(keyword.value, ast.Constant):
                default = keyword.value.value
        self.found.arguments.setdefault(name, default)
