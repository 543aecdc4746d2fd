"""What an expression holds, as far as its source says: of one batch, and of what it comes from.

The values of an abstract run: not a number, but "a mean over this batch", "the length of a loader", "a total of those".
Each says what its length, its mean, its parts and its attributes are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.frames import BatchLoop, Binding, Contribution
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Loader, Quantity, Topic, Weight

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


class CountedThing(Enum):
    """What a count counts."""

    SAMPLES = "the samples of this batch"
    ELEMENTS = "something else in this batch"
    KEYS = "the keys of a batch that is a dict"
    GRAPHS = "the graphs of this batch"
    CONFIGURED = "the batch size that was asked for"
    BATCHES = "the batches of a loader"
    DATASET = "the samples of a dataset"
    PADDED = "the batches of a loader times the batch size that was asked for"


class RankState(Enum):
    """What was done to a rank's number over the ranks."""

    SUMMED = "added up over the ranks"
    LISTED = "beside those of the other ranks"
    AVERAGED = "averaged over the ranks"
    DIVIDED = "divided by the number of ranks, and added to no other"


@dataclass(frozen=True, eq=False)
class Share:
    """What a number is that every rank computes of its own samples.

    Attributes:
        topic: whether it is a plain mean.
        why: why the mean over the ranks is another number, as half a sentence.
        loops: the loops that it comes from.
        of_batch: it is a number of one batch.
    """

    topic: Topic
    why: str
    loops: tuple[BatchLoop, ...] = ()
    of_batch: bool = False


@dataclass(frozen=True, eq=False)
class OverRanks:
    """What was done over the ranks to numbers, what these were on each rank, and the statement that did it."""

    state: RankState
    shares: tuple[Share, ...] = ()
    where: ast.AST | None = None


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


#: Functions that leave one number of many, or one for each row.
REDUCTIONS = {
    "mean": "mean", "average": "mean", "fmean": "mean", "nanmean": "mean", "sum": "sum", "nansum": "sum", "fsum": "sum",
    "count_nonzero": "count", "max": "largest value", "min": "smallest value", "amax": "largest value",
    "amin": "smallest value", "std": "standard deviation", "var": "variance", "median": "median", "norm": "norm",
    "prod": "product", "logsumexp": "logarithm of a sum", "quantile": "quantile", "percentile": "quantile",
    "all": "agreement", "any": "agreement", "dist": "norm",
}  # fmt: skip


_TOKEN_MODELS = (
    "ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM", "ForMaskedLM", "ForTokenClassification",
    "ForPreTraining", "ModelWithLMHead", "EncoderDecoderModel",
)  # fmt: skip


_DATASETS = name_set("dataset train_dataset test_dataset val_dataset valid_dataset")


_LOSS = re.compile(r"(^|_)loss$")


_BY_LEFT_OUT = "how many values are left out differs from batch to batch"


_BY_MASK = "how many samples the mask leaves differs from batch to batch"


_BY_PAIRS = "each sample is compared with the others of its batch"


@dataclass(eq=False)
class Value:
    """Any value; ``node`` is the expression that gave it.

    What is asked of a value that has no better answer is answered here: nothing is known.
    """

    #: What its length counts, of whatever holds batches or samples.
    has_many: ClassVar[CountedThing | None] = None

    node: ast.AST | None = None
    ranks: OverRanks | None = field(default=None, kw_only=True)

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """What batches added to it."""
        return ()

    @property
    def members(self) -> list[Value]:
        """What a list or a tuple is written with."""
        return []

    def held(self, run: Interpreter, target: ast.expr) -> Binding | None:
        """What an attribute or an entry holds, and since when; None where that is not kept here."""
        return None

    @property
    def mark(self) -> int:
        """What tells it from other values, however it is handed on."""
        return id(self.node)

    def is_of_batch(self, depth: int = 3) -> bool:
        """Whether a batch went into it; lists are looked into as deep as that."""
        return False

    def length(self, run: Interpreter, node: ast.expr, of: ast.expr | None = None) -> Value:
        """``len(value)``, ``value.size(0)``; ``of`` is the value as written."""
        text = ast.unparse(of) if isinstance(of, (ast.Name, ast.Attribute, ast.Subscript)) else ""
        if text and any(loop.text == text for loop in run.batch_loops.values()):
            length: Value = Count(node, CountedThing.BATCHES)
        else:
            length = self._length(run, node, of)
        if isinstance(length, (Count, Unknown)) and of is not None and isinstance(node, ast.Call):
            length.length_of = Length(ast.unparse(of), self)
        return length

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> Value:
        return Unknown(node) if self.has_many is None else Count(node, self.has_many)

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        """``np.mean(value)``, ``value.mean()`` without a dimension."""
        return Unknown(node)

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        """``sum(value)``, ``value.sum()`` without a dimension."""
        return Unknown(node)

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> Value:
        """Another reduction to one number: a largest value, a norm."""
        return Unknown(node, "", self.is_of_batch())

    def reduce(self, run: Interpreter, node: ast.expr, name: str, dimension: object) -> Value | None:
        """A reduction by its name; None where it is none."""
        what = REDUCTIONS.get(name)
        if what is None:
            return None
        if what == "mean":
            return self.mean(run, node)
        return self.sum(run, node) if what in {"sum", "count"} else self.extreme(run, node, what)

    def nonlinear(self, node: ast.expr, what: str) -> Value:
        """A nonlinear function of it, as "the square root"."""
        return self

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        of_batch = self.is_of_batch()
        if name == "shape":
            return Shape(node, self)
        if name == "loss" and of_batch:
            return hugging_face_loss(run, node)
        if name in run.index.arguments and not of_batch:
            return argument(run, name, node)
        return named(name, node, of_batch)

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        """``value[key]``."""
        here = run.frame.scope.find(ast.unparse(node))
        return here.value if here is not None else self._at(run, key, node)

    def _at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return Unknown(node, text_of(key))

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        """What a target in that place holds when the value is taken apart."""
        return Unknown(target)

    def item(self, target: ast.expr) -> Value:
        """What a loop over it is given, where the loop is not over batches."""
        return Unknown(target, "", self.is_of_batch())


@dataclass(frozen=True, eq=False)
class Length:
    """What a number is the length of, as written and as found, for a loop that comes to be known only later."""

    text: str
    value: Value


@dataclass(eq=False)
class Unknown(Value):
    """Nothing is known but its name, and whether a batch went into it."""

    name: str = ""
    of_batch: bool = False
    parameter: bool = False
    length_of: Length | None = None  # it is the length of something
    floored: bool = False  # it is a // b

    def is_of_batch(self, depth: int = 3) -> bool:
        return self.of_batch

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> Value:
        loop = run.batch_loop()
        if self.of_batch:
            return Count(node, CountedThing.SAMPLES, loop)
        if name_tables.reads_as_loader(self.name):
            return Count(node, CountedThing.BATCHES)
        if self.name and name_tables.reads_as_dataset(self.name):
            return Count(node, CountedThing.DATASET)
        if self.parameter and loop is not None:
            return Count(node, CountedThing.SAMPLES, loop)
        return Unknown(node, f"len_{self.name}" if self.name else "")

    def _in_batch(self, run: Interpreter) -> bool:
        return self.of_batch or run.batch_loop() is not None

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        return run.stat(node, Quantity.MEAN) if self._in_batch(run) else Unknown(node)

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        return run.stat(node, Quantity.SUM, "it is a sum over the batch") if self._in_batch(run) else Unknown(node)

    def reduce(self, run: Interpreter, node: ast.expr, name: str, dimension: object) -> Value | None:
        if name in REDUCTIONS and keeps_rows(dimension):
            return BatchRows(node) if self.of_batch else Unknown(node, self.name, parameter=self.parameter)
        if self.of_batch and name == "nanmean":
            return run.stat(node, Quantity.RATIO, _BY_LEFT_OUT)
        if self.of_batch and _is_sum_of_losses(name, node):
            return run.stat(node, Quantity.UNKNOWN)
        return super().reduce(run, node, name, dimension)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        if name == "loss" and self.parameter and run.batch_loop() is not None:
            return hugging_face_loss(run, node)
        return super().attribute(run, name, node)

    def _at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return _entry(run, self, self.name, key, node)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        return Unknown(target, "", self.of_batch, self.parameter)


@dataclass(eq=False)
class Fixed(Value):
    """No batch goes into it: a time, a learning rate, a random number."""

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        return self

    def item(self, target: ast.expr) -> Value:
        return Fixed(target)


@dataclass(eq=False)
class Const(Value):
    value: object = None


@dataclass(eq=False)
class Library(Value):
    """A name that was imported: ``torch.nn.functional.mse_loss``."""

    path: str = ""
    given: tuple[Value, ...] = ()  # by `partial`
    named: dict[str, Value] = field(default_factory=dict)

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> Value:
        is_loader = name_tables.reads_as_loader(name_tables.last_of(self.path))
        return Count(node, CountedThing.BATCHES) if is_loader else Unknown(node)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        return Library(node, f"{self.path}.{name}")

    def item(self, target: ast.expr) -> Value:
        return Fixed(target)


@dataclass(eq=False)
class BatchRows(Value):
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
        output: a function of the file, or of a library, made it.
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

    def is_of_batch(self, depth: int = 3) -> bool:
        return True

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> Value:
        if self.whole and isinstance(of, ast.Name) and of.id in run.frame.keyed and isinstance(node, ast.Call):
            return Count(node, CountedThing.KEYS, run.batch_loop())
        return self.elements(run, node)

    def elements(self, run: Interpreter, node: ast.expr) -> Count:
        """How many there are: as many as samples, unless a mask left some out."""
        return Count(node, CountedThing.ELEMENTS if self.selected else CountedThing.SAMPLES, run.batch_loop())

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        if self.selected:
            return run.stat(node, Quantity.RATIO, _BY_MASK)
        if self.pairs:
            return run.stat(node, Quantity.COUPLED, "it is a mean over pairs of the batch's samples")
        if self.rescaled:
            return run.stat(node, Quantity.RATIO, "its terms are divided by a mean or a sum over their own batch")
        return run.stat(node, Quantity.MEAN)

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        if self.pairs and not self.mask:
            return run.stat(node, Quantity.COUPLED, "it is a sum over pairs of the batch's samples")
        return run.stat(node, Quantity.COUNT if self.mask else Quantity.SUM, "it is a sum over the batch")

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> Value:
        if self.pairs:
            return run.stat(node, Quantity.COUPLED, _BY_PAIRS)
        return run.stat(node, Quantity.NONLINEAR, f"the {what} of a batch is no mean")

    def reduce(self, run: Interpreter, node: ast.expr, name: str, dimension: object) -> Value | None:
        if name in REDUCTIONS and keeps_rows(dimension):
            mask = self.mask and name in {"all", "any"}
            return replace(self._like(node), mask=mask, selected=self.selected, rescaled=self.rescaled)
        if name == "nanmean":
            return run.stat(node, Quantity.RATIO, _BY_LEFT_OUT)
        if name == "count_nonzero":
            return run.stat(node, Quantity.COUNT)
        if not self.mask and _is_sum_of_losses(name, node):
            return run.stat(node, Quantity.UNKNOWN)
        return super().reduce(run, node, name, dimension)

    def _like(self, node: ast.expr) -> BatchRows:
        return BatchRows(node, pairs=self.pairs, output=self.output)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        if name == "shape":
            return Shape(node, self)
        if name == "loss":
            return hugging_face_loss(run, node)
        if name in _COUNTS_OF_ROWS:
            return Count(node, _COUNTS_OF_ROWS[name], run.batch_loop())
        if name in {"T", "data", "mT"}:
            return self
        if "loss" in name:
            return run.stat(node, Quantity.UNKNOWN)
        return BatchRows(node, mask="mask" in name, output=self.output)

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        text = text_of(key)
        if text:
            if "loss" in text and not self.whole:
                return hugging_face_loss(run, node) if text == "loss" else run.stat(node, Quantity.UNKNOWN)
            return BatchRows(node, mask="mask" in text, output=self.output)
        if isinstance(key, BatchRows) and key.mask:
            return BatchRows(node, selected=True, mask=self.mask, output=self.output)
        parts = key.members
        if any(isinstance(part, BatchRows) and part.mask for part in parts):
            return BatchRows(node, selected=True, output=self.output)
        columns = 1 if parts and isinstance(parts[-1], Const) and parts[-1].value is None else None
        return replace(self._like(node), mask=self.mask, selected=self.selected, columns=columns)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        name = target.id if isinstance(target, ast.Name) else ""
        if self.output and _LOSS.search(name):
            part = run.stat(target, Quantity.UNKNOWN, origin=self.node)
            # What it was taken from is the expression to point at, where it is one.
            part.call = part.plain = self.node if isinstance(self.node, ast.expr) else None
            return part
        return BatchRows(target, output=self.output, raw=self.raw, mask="mask" in name)


_COUNTS_OF_ROWS = {
    "num_graphs": CountedThing.GRAPHS,
    "batch_size": CountedThing.SAMPLES,
    "num_samples": CountedThing.SAMPLES,
    "num_nodes": CountedThing.ELEMENTS,
    "num_edges": CountedThing.ELEMENTS,
    "ndata": CountedThing.ELEMENTS,
}


@dataclass(eq=False)
class Whole(Value):
    """Numbers that stay together: an attribute, an entry or a part of them is taken for all of them."""

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        return Shape(node, self) if name == "shape" else self

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return self

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        return self


@dataclass(eq=False)
class Stat(Whole):
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
    steps: ast.expr | None = None  # the number of accumulation steps that it was divided by
    named: bool = False  # only the name of a function says so
    kept: bool = False  # a metric object gave it, which keeps what it needs over batches
    summed: bool = False  # what a function returned was summed, so that it was no number
    inner: tuple[Contribution, ...] = ()  # of a running total: what it is a total of

    @property
    def mark(self) -> int:
        return id(self.origin)

    def is_of_batch(self, depth: int = 3) -> bool:
        return True

    def derived(self, node: ast.expr, **changes: object) -> Stat:
        """The statistic after something that does not change what it is, but for the changes."""
        return replace(self, **{"node": node, "call": node, "plain": node, **changes})  # type: ignore[arg-type]

    def plus(self, other: Stat, node: ast.expr) -> Stat:
        """A sum of two statistics is as bad as the worse of them."""
        pair = {self.quantity, other.quantity}
        if pair == {Quantity.COUNT}:
            return self.derived(node)
        if pair <= {Quantity.SUM, Quantity.COUNT}:
            return self.derived(node, quantity=Quantity.SUM)
        if pair == {Quantity.SUM, Quantity.MEAN}:
            return (self if self.quantity is Quantity.MEAN else other).derived(node)
        return worst([self, other]).derived(node)

    def nonlinear(self, node: ast.expr, what: str) -> Value:
        if self.quantity in {Quantity.NONLINEAR, Quantity.COUPLED, Quantity.RUNNING}:
            return self.derived(node)
        return self.derived(node, quantity=Quantity.NONLINEAR, why=f"{what} is taken of each batch", origin=node)

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> Value:
        return Count(node, CountedThing.SAMPLES, run.batch_loop())

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        return self.derived(node, quantity=Quantity.MEAN) if self.quantity is Quantity.COUNT else self.derived(node)

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        by_torch = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        return replace(self, summed=by_torch and (self.named or self.quantity is Quantity.UNKNOWN))

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> Value:
        return self.derived(node)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        """A part of what is known by its name only: the part's own name says more."""
        known = name_tables.by_name(target.id) if isinstance(target, ast.Name) else None
        if known is None or not (self.named or self.quantity is Quantity.UNKNOWN):
            return self
        return replace(self, quantity=known[0], why=known[1], named=True)


@dataclass(eq=False)
class Count(Value):
    of: CountedThing = CountedThing.SAMPLES
    loop: BatchLoop | None = None
    number: int | None = None
    inverse: bool = False
    floored: bool = False  # how many full batches there are: n // batch_size
    length_of: Length | None = None


@dataclass(eq=False)
class Position(Value):
    """The number of the batch in its loop, from 0, or how many there were so far."""

    loop: BatchLoop | None = None
    counts: bool = False
    offset: bool = False  # of the batch's first sample, as in range(0, n, batch_size)


@dataclass(eq=False)
class Shape(Value):
    """The shape of something that has a row for each sample."""

    of: Value | None = None

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        if isinstance(key, Const) and key.value == 0:
            return (self.of or Unknown(node)).length(run, node)
        if isinstance(node.slice, ast.Slice) and node.slice.lower is None:
            return self
        return Fixed(node) if isinstance(key, Const) and isinstance(key.value, int) else Unknown(node)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        if place > 0:
            return Fixed(target)
        of_batch = self.of is not None and self.of.is_of_batch()
        return Count(target, CountedThing.SAMPLES, run.batch_loop()) if of_batch else Unknown(target)


@dataclass(eq=False)
class LoaderValue(Value):
    has_many = CountedThing.BATCHES

    loader: Loader = field(default_factory=lambda: Loader(None))
    dataset: Value | None = None
    sampler: Value | None = None
    counted: bool = False  # each batch comes with its number
    cut: bool = False  # the parts of a tensor, as `x.split(64)`

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        if name in {"dataset", "data_source", "examples"}:
            return self.dataset or Dataset(node)
        if name == "batch_size":
            return Count(node, CountedThing.CONFIGURED, number=self.loader.batch_size)
        if name in {"num_batches", "n_batches", "nbatch"}:
            return Count(node, CountedThing.BATCHES)
        if name in {"n", "num_samples", "num_examples"}:
            return Count(node, CountedThing.DATASET)
        if name in {"sampler", "batch_sampler"}:
            return self.sampler or Unknown(node, name)
        return named(name, node)

    def _at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return self


@dataclass(eq=False)
class Dataset(Value):
    """Something with one entry for each sample."""

    has_many = CountedThing.DATASET

    def _at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return _entry(run, self, "", key, node)


def _entry(run: Interpreter, base: Value, name: str, key: Value, node: ast.Subscript) -> Value:
    """An entry of something unknown: a batch of a dataset, a loss of an output, a batch size of a configuration."""
    text = text_of(key)
    of_batch = base.is_of_batch() or key.is_of_batch()
    if of_batch:
        return run.stat(node, Quantity.UNKNOWN) if "loss" in text else _by_key(node, text, name, True)
    if text in run.index.arguments:
        return argument(run, text, node)
    if run.batch_loop() is not None and _is_slice_of_batch(run, node.slice, key):
        return BatchRows(node)
    return _by_key(node, text, name, False)


def _by_key(node: ast.Subscript, text: str, name: str, of_batch: bool) -> Value:
    if text and name_tables.reads_as_batch_size(text):
        return Count(node, CountedThing.CONFIGURED)
    if name_tables.reads_as_loader(name) or "loader" in text.lower():
        return LoaderValue(node, Loader(node))
    return Unknown(node, text or name, of_batch)


def _is_slice_of_batch(run: Interpreter, node: ast.expr, key: Value) -> bool:
    """``x[i:i + batch_size]`` or ``x[order[i:j]]`` in a loop over batches."""
    if isinstance(key, BatchRows):
        return True
    if not isinstance(node, ast.Slice) or node.lower is None:
        return False
    return isinstance(run.evaluate(node.lower), (Position, Count, Fixed, Unknown))


def is_last_few(node: ast.expr) -> bool:
    """``[-100:]``; not ``[-len(loader):]``, which is an epoch."""
    lower = node.lower if isinstance(node, ast.Slice) else None
    return isinstance(lower, ast.UnaryOp) and isinstance(lower.op, ast.USub) and isinstance(lower.operand, ast.Constant)


def _is_sum_of_losses(name: str, node: ast.expr) -> bool:
    """``sum(losses)`` of the losses that a model returns: the builtin, which goes over a list."""
    builtin = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return builtin and REDUCTIONS.get(name) in {"sum", "count"} and "loss" in ast.unparse(node)


def is_vague(value: Value) -> bool:
    """Whether it is not known what the value is: numbers of the batch, or a value for each sample."""
    return isinstance(value, Unknown) or (isinstance(value, Stat) and value.quantity is Quantity.UNKNOWN)


def keeps_rows(dimension: object) -> bool:
    """Whether there is still a row for each sample after a reduction over that dimension."""
    if dimension is ...:
        return True
    if isinstance(dimension, list):
        return 0 not in dimension
    return isinstance(dimension, int) and not isinstance(dimension, bool) and dimension != 0


def named(name: str, node: ast.AST, of_batch: bool = False, parameter: bool = False) -> Value:
    """What a name says by itself."""
    if name_tables.reads_as_batch_size(name) and not of_batch:
        return Count(node, CountedThing.CONFIGURED)
    if name_tables.reads_as_loader(name):
        return LoaderValue(node, Loader(node if isinstance(node, ast.expr) else None))
    return Dataset(node) if name in _DATASETS else Unknown(node, name, of_batch, parameter)


def as_loader(value: Value, name: str) -> Value:
    """What nothing is known of but that its name is a loader's."""
    if isinstance(value, Unknown) and not value.of_batch and not value.length_of and name_tables.reads_as_loader(name):
        return LoaderValue(value.node, Loader(value.node if isinstance(value.node, ast.expr) else None))
    return value


def argument(run: Interpreter, name: str, node: ast.AST) -> Value:
    """What the command line defaults to; a batch size that stands there is the user's to choose."""
    if name_tables.reads_as_batch_size(name):
        return Count(node, CountedThing.CONFIGURED)
    return Const(node, run.index.arguments[name])


def hugging_face_loss(run: Interpreter, node: ast.expr) -> Stat:
    """``outputs.loss``: of a language model the mean over its tokens, of a classifier the mean over samples."""
    loop = run.batch_loop()
    if loop is not None and loop.equal:  # blocks that are drawn at random have no padding
        return run.stat(node, Quantity.MEAN)
    if any(word.endswith(_TOKEN_MODELS) for word in run.index.words):
        return run.stat(node, Quantity.RATIO, "it is a mean over the tokens that are not padding")
    return run.stat(node, Quantity.MEAN)


def literal_index(node: ast.expr) -> int | None:
    """The whole number that is written there."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else None


def key_of(node: ast.expr) -> str:
    """The key that is written there; "*" where it is not a text."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "*"


def text_of(key: Value) -> str:
    """The text that a key is; "" where it is none."""
    return key.value if isinstance(key, Const) and isinstance(key.value, str) else ""


def worst(stats: list[Stat]) -> Stat:
    """The one that harms an average most."""
    return max(stats, key=lambda stat: HARM.index(stat.quantity))


def any_of_batch(values: Iterable[Value]) -> bool:
    """Whether a batch went into one of them."""
    return any(value.is_of_batch() for value in values)


Arguments = list[Value]


Keywords = dict[str, Value]
