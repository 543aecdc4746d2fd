"""What an expression holds, as far as its source says.

The values of an abstract run: not a number, but "a mean over this batch", "the length of a loader", "a total of those".
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from enum import Enum

from batchproof.scripts.source.site import Average, Loader, Phase, Quantity, Weight


class Of(Enum):
    """What a count counts."""

    SAMPLES = "the samples of this batch"
    ELEMENTS = "something else in this batch"
    KEYS = "the keys of a batch that is a dict"
    GRAPHS = "the graphs of this batch"
    CONFIGURED = "the batch size that was asked for"
    BATCHES = "the batches of a loader"
    DATASET = "the samples of a dataset"
    PADDED = "the batches of a loader times the batch size that was asked for"


@dataclass(eq=False)
class Value:
    """Any value; ``node`` is the expression that gave it."""

    node: ast.AST | None = None


@dataclass(eq=False)
class Unknown(Value):
    """Nothing is known but its name, and whether a batch went into it."""

    name: str = ""
    of_batch: bool = False
    parameter: bool = False
    length: Length | None = None  # it is the length of something


@dataclass(frozen=True, eq=False)
class Length:
    """What a number is the length of, as written and as found, for a loop that comes to be known only later."""

    text: str
    value: Value


@dataclass(eq=False)
class Fixed(Value):
    """No batch goes into it: a time, a learning rate, a random number."""


@dataclass(eq=False)
class Const(Value):
    value: object = None


@dataclass(eq=False)
class Library(Value):
    """A name that was imported: ``torch.nn.functional.mse_loss``."""

    path: str = ""


@dataclass(eq=False)
class Rows(Value):
    """A tensor, or a structure of tensors, with one row for each sample of the batch.

    Attributes:
        whole: the batch as the loader gave it.
        raw: a part of the batch as the loader gave it.
        mask: truth values, or ones and zeros.
        selected: the rows that a mask left.
        pairs: one value for each pair of samples.
        rescaled: divided by a mean or a sum over the batch.
        order: 0, 1, 2, … for the samples of the batch.
        columns: how many trailing dimensions of size one it was given, by ``unsqueeze`` or ``view``; None if unknown.
    """

    whole: bool = False
    raw: bool = False
    mask: bool = False
    selected: bool = False
    pairs: bool = False
    rescaled: bool = False
    order: bool = False
    columns: int | None = None
    output: bool = False


@dataclass(eq=False)
class Stat(Value):
    """A number about one batch."""

    quantity: Quantity = Quantity.UNKNOWN
    why: str = ""
    origin: ast.AST | None = None
    call: ast.expr | None = None
    plain: ast.expr | None = None  # without its weight
    weight: Weight = Weight.NONE
    weight_node: ast.expr | None = None
    factor: Value | None = None
    loop: BatchLoop | None = None
    divided: Value | None = None  # by the number of batches, or of samples, before it is added
    divided_node: ast.expr | None = None
    twice: bool = False  # a mean that was divided by the batch's size
    named: bool = False  # only the name of a function says so
    inner: tuple[Entry, ...] = ()  # of a running total: what it is a total of


@dataclass(eq=False)
class Count(Value):
    of: Of = Of.SAMPLES
    loop: BatchLoop | None = None
    number: int | None = None
    inverse: bool = False
    length: Length | None = None


@dataclass(eq=False)
class Position(Value):
    """The number of the batch in its loop, from 0, or how many there were so far."""

    loop: BatchLoop | None = None
    counts: bool = False
    offset: bool = False  # of the batch's first sample, as in range(0, n, batch_size)


@dataclass(eq=False)
class Total(Value):
    """What batches were added to, one after the other; ``listed`` where they can still be told apart."""

    entries: tuple[Entry, ...] = ()
    listed: bool = False
    weighted: Value | None = None  # they were multiplied by these


@dataclass(eq=False)
class Averaged(Value):
    """A total after its division."""

    entries: tuple[Entry, ...] = ()
    averages: tuple[Average, ...] = ()


@dataclass(eq=False)
class Pool(Value):
    """The rows of many batches, joined."""


@dataclass(eq=False)
class LoaderValue(Value):
    loader: Loader = field(default_factory=lambda: Loader(None))
    dataset: Value | None = None
    sampler: Value | None = None
    counted: bool = False  # each batch comes with its number


@dataclass(eq=False)
class Dataset(Value):
    """Something with one entry for each sample."""


@dataclass(eq=False)
class LossFunction(Value):
    """A loss of a library, ready to be called."""

    name: str = ""
    quantity: Quantity = Quantity.MEAN
    why: str = ""
    rows: bool = False  # reduction="none"


@dataclass(eq=False)
class MetricObject(Value):
    """An object that keeps what it needs over batches; ``quantity`` is what one call of it returns."""

    name: str = ""
    quantity: Quantity = Quantity.MEAN
    why: str = ""


@dataclass(eq=False)
class Meter(Value):
    """An average of what it is given, of a class that is not in the file."""

    name: str = ""
    slots: dict[str, list[Entry]] = field(default_factory=dict)
    weighs: bool = True
    born: tuple[int, ...] = ()


@dataclass(eq=False)
class Function(Value):
    definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None = None
    scope: Scope | None = None
    me: Value | None = None
    given: tuple[Value, ...] = ()
    named: dict[str, Value] = field(default_factory=dict)


@dataclass(eq=False)
class Class(Value):
    definition: ast.ClassDef | None = None
    scope: Scope | None = None


@dataclass(eq=False)
class Instance(Value):
    of: Class | None = None
    attributes: dict[str, Binding] = field(default_factory=dict)


@dataclass(eq=False)
class Items(Value):
    """A list, a tuple or an array: what it was written with, and what batches were added to it."""

    items: list[Value] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    born: tuple[int, ...] = ()
    array: bool = False
    start: ast.AST | None = None
    of_samples: bool = False  # one item for each sample of the batch
    tuple_: bool = False
    recent: bool = False  # only the last few are kept


@dataclass(eq=False)
class Shape(Value):
    """The shape of something that has a row for each sample."""

    of: Value | None = None


@dataclass(eq=False)
class Mapping(Value):
    entries: dict[str, Binding] = field(default_factory=dict)
    born: tuple[int, ...] = ()
    makes: str = ""  # what a defaultdict makes: "list", "float", "meter", "dict"
    template: ast.expr | None = None  # of a dict: as written


@dataclass(eq=False)
class Binding:
    """What a name holds, since which statement, and inside which loops that statement stands."""

    value: Value
    born: tuple[int, ...] = ()
    statement: ast.AST | None = None


@dataclass(eq=False)
class Scope:
    """Names, and the scope around them."""

    names: dict[str, Binding] = field(default_factory=dict)
    outer: Scope | None = None

    def find(self, name: str) -> Binding | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


@dataclass(eq=False)
class BatchLoop:
    """A loop over batches, as it is being found out."""

    node: ast.For | ast.AsyncFor | ast.While | ast.comprehension | ast.FunctionDef | ast.AsyncFunctionDef
    iterable: ast.expr | None = None
    text: str = ""
    over: list[Value] = field(default_factory=list)  # what the iterable held, each time the loop was read
    loaders: list[Loader] = field(default_factory=list)
    backward: bool = False
    quiet: bool = False  # no_grad, eval(), or a name that says so
    single: bool = False  # a dimension for the batch is added in the loop
    of_one: bool = False  # it is asserted that a batch is one sample
    equal: bool = False
    weighs: bool = False  # the trainer weighs what is logged by the batch's size

    @property
    def phase(self) -> Phase:
        if self.backward:
            return Phase.TRAINING
        return Phase.EVALUATION if self.quiet else Phase.UNKNOWN


@dataclass(eq=False)
class Entry:
    """One batch's contribution, as one statement adds it."""

    name: str
    statement: ast.AST
    value: Value
    loop: BatchLoop
    function: str = ""
    starts: dict[int, ast.AST] = field(default_factory=dict)
    averages: dict[int, Average] = field(default_factory=dict)
    reported: dict[str, None] = field(default_factory=dict)
    written: ast.expr | None = None  # what is added, as its statement has it
    window: bool = False
    listed: bool = False
    spread: bool = False  # one item for each row, by ``extend``
    late: bool = False  # a trainer adds it, where no statement shows
    taken: ast.AST | None = None  # the statement that averages it first
    scalar: bool = False  # it was averaged like a number


#: Of two values that a name may hold, the one that says more comes later.
_SAYS = (Unknown, Const, Fixed, Count, Library, Rows, Items, Mapping, Stat, Averaged, Total)
#: Of two numbers in a sum, the one that harms an average more comes later.
HARM = (
    Quantity.COUNT,
    Quantity.ROWS,
    Quantity.UNKNOWN,
    Quantity.SUM,
    Quantity.MEAN,
    Quantity.RATIO,
    Quantity.NONLINEAR,
    Quantity.COUPLED,
    Quantity.RUNNING,
)


def join(first: Value, second: Value) -> Value:
    """What a name holds after two branches."""
    if first is second:
        return first
    if isinstance(first, Total) and isinstance(second, Total):
        extra = tuple(e for e in second.entries if e not in first.entries)
        return Total(first.node, first.entries + extra, first.listed, first.weighted or second.weighted)
    if isinstance(first, Averaged) and isinstance(second, Averaged):
        extra = tuple(e for e in second.entries if e not in first.entries)
        return Averaged(first.node, first.entries + extra, first.averages + second.averages)
    if isinstance(first, Stat) and isinstance(second, Stat):
        return second if first.quantity is Quantity.UNKNOWN else first
    if (
        isinstance(first, Items)
        and isinstance(second, Items)
        and not (first.entries or second.entries)
        and len(first.items) == len(second.items)
    ):
        items = [join(a, b) for a, b in zip(first.items, second.items, strict=True)]
        return Items(first.node, items, [], first.born, first.array, first.start)
    return first if _says(first) >= _says(second) else second


def _says(value: Value) -> int:
    if isinstance(value, Const) and value.value is None:
        return -1
    for rank, kind in enumerate(_SAYS):
        if type(value) is kind:
            return rank
    return len(_SAYS)


def join_scopes(scope: Scope, one: dict[str, Binding], other: dict[str, Binding]) -> None:
    """Leave in a scope what its names hold after two branches."""
    if one is other:
        scope.names = one
        return
    names = dict(other)
    for name, binding in one.items():
        there = other.get(name)
        if there is None or there is binding:
            names[name] = binding
            continue
        value = join(binding.value, there.value)
        kept = binding if value is binding.value else there
        born = binding.born if len(binding.born) <= len(there.born) else there.born
        names[name] = Binding(value, born, kept.statement)
    scope.names = names


def is_of_batch(value: Value, depth: int = 3) -> bool:
    """Whether a batch went into it."""
    if isinstance(value, (Rows, Stat)):
        return True
    if isinstance(value, Unknown):
        return value.of_batch
    if depth == 0:
        return False
    if isinstance(value, Items):
        return any(is_of_batch(v, depth - 1) for v in value.items)
    if isinstance(value, Mapping):
        return any(is_of_batch(b.value, depth - 1) for b in value.entries.values())
    return False


Arguments = list[Value]
Keywords = dict[str, Value]
