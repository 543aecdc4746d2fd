"""What an expression holds, as far as its source says.

The values of an abstract run: not a number, but "a mean over this batch", "the length of a loader", "a total of those".
Each says what its length, its mean, its parts and its attributes are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.frames import BatchLoop, Binding, Contribution, Scope, note_after
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Average, Divisor, Loader, Quantity, Topic, Weight

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
class AbstractValue:
    """Any value; ``node`` is the expression that gave it.

    What is asked of a value that has no better answer is answered here: nothing is known.
    """

    node: ast.AST | None = None

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """What batches added to it."""
        return ()

    @property
    def mark(self) -> int:
        """What tells it from other values, however it is handed on."""
        return id(self.node)

    def is_of_batch(self, depth: int = 3) -> bool:
        """Whether a batch went into it; lists are looked into as deep as that."""
        return False

    def length(self, run: Interpreter, node: ast.expr, of: ast.expr | None = None) -> AbstractValue:
        """``len(value)``, ``value.size(0)``; ``of`` is the value as written."""
        text = ast.unparse(of) if isinstance(of, (ast.Name, ast.Attribute, ast.Subscript)) else ""
        if text and any(loop.text == text for loop in run.batch_loops.values()):
            length: AbstractValue = Count(node, CountedThing.BATCHES)
        else:
            length = self._length(run, node, of)
        if isinstance(length, (Count, Unknown)) and of is not None and isinstance(node, ast.Call):
            length.length_of = Length(ast.unparse(of), self)
        return length

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        return Unknown(node)

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        """``np.mean(value)``, ``value.mean()`` without a dimension."""
        return Unknown(node)

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        """``sum(value)``, ``value.sum()`` without a dimension."""
        return Unknown(node)

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> AbstractValue:
        """Another reduction to one number: a largest value, a norm."""
        return Unknown(node, "", self.is_of_batch())

    def reduce(self, run: Interpreter, node: ast.expr, name: str, dimension: object) -> AbstractValue | None:
        """A reduction by its name; None where it is none."""
        what = REDUCTIONS.get(name)
        if what is None:
            return None
        if what == "mean":
            return self.mean(run, node)
        return self.sum(run, node) if what in {"sum", "count"} else self.extreme(run, node, what)

    def nonlinear(self, node: ast.expr, what: str) -> AbstractValue:
        """A nonlinear function of it, as "the square root"."""
        return self

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        of_batch = self.is_of_batch()
        if name == "shape":
            return Shape(node, self)
        if name == "loss" and of_batch:
            return hugging_face_loss(run, node)
        if name in run.index.arguments and not of_batch:
            return argument(run, name, node)
        return named(name, node, of_batch)

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        """``value[key]``."""
        here = run.frame.scope.find(ast.unparse(node))
        return here.value if here is not None else self._at(run, key, node)

    def _at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return Unknown(node, text_of(key))

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        """What a target in that place holds when the value is taken apart."""
        return Unknown(target)

    def item(self, target: ast.expr) -> AbstractValue:
        """What a loop over it is given, where the loop is not over batches."""
        return Unknown(target, "", self.is_of_batch())


@dataclass(frozen=True, eq=False)
class Length:
    """What a number is the length of, as written and as found, for a loop that comes to be known only later."""

    text: str
    value: AbstractValue


@dataclass(eq=False)
class Unknown(AbstractValue):
    """Nothing is known but its name, and whether a batch went into it."""

    name: str = ""
    of_batch: bool = False
    parameter: bool = False
    length_of: Length | None = None  # it is the length of something

    def is_of_batch(self, depth: int = 3) -> bool:
        return self.of_batch

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
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

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return run.stat(node, Quantity.MEAN) if self._in_batch(run) else Unknown(node)

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return run.stat(node, Quantity.SUM, "it is a sum over the batch") if self._in_batch(run) else Unknown(node)

    def reduce(self, run: Interpreter, node: ast.expr, name: str, dimension: object) -> AbstractValue | None:
        if name in REDUCTIONS and keeps_rows(dimension):
            return BatchRows(node) if self.of_batch else Unknown(node, self.name, parameter=self.parameter)
        if self.of_batch and name == "nanmean":
            return run.stat(node, Quantity.RATIO, _BY_LEFT_OUT)
        if self.of_batch and _is_sum_of_losses(name, node):
            return run.stat(node, Quantity.UNKNOWN)
        return super().reduce(run, node, name, dimension)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        if name == "loss" and self.parameter and run.batch_loop() is not None:
            return hugging_face_loss(run, node)
        return super().attribute(run, name, node)

    def _at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return _entry(run, self, self.name, key, node)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        return Unknown(target, "", self.of_batch, self.parameter)


@dataclass(eq=False)
class Fixed(AbstractValue):
    """No batch goes into it: a time, a learning rate, a random number."""

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        return self

    def item(self, target: ast.expr) -> AbstractValue:
        return Fixed(target)


@dataclass(eq=False)
class Const(AbstractValue):
    value: object = None


@dataclass(eq=False)
class Library(AbstractValue):
    """A name that was imported: ``torch.nn.functional.mse_loss``."""

    path: str = ""

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        is_loader = name_tables.reads_as_loader(name_tables.last_of(self.path))
        return Count(node, CountedThing.BATCHES) if is_loader else Unknown(node)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return Library(node, f"{self.path}.{name}")

    def item(self, target: ast.expr) -> AbstractValue:
        return Fixed(target)


@dataclass(eq=False)
class BatchRows(AbstractValue):
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

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        if self.whole and isinstance(of, ast.Name) and of.id in run.frame.keyed and isinstance(node, ast.Call):
            return Count(node, CountedThing.KEYS, run.batch_loop())
        return self.elements(run, node)

    def elements(self, run: Interpreter, node: ast.expr) -> Count:
        """How many there are: as many as samples, unless a mask left some out."""
        return Count(node, CountedThing.ELEMENTS if self.selected else CountedThing.SAMPLES, run.batch_loop())

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        if self.selected:
            return run.stat(node, Quantity.RATIO, _BY_MASK)
        if self.pairs:
            return run.stat(node, Quantity.COUPLED, "it is a mean over pairs of the batch's samples")
        if self.rescaled:
            return run.stat(node, Quantity.RATIO, "its terms are divided by a mean or a sum over their own batch")
        return run.stat(node, Quantity.MEAN)

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        if self.pairs and not self.mask:
            return run.stat(node, Quantity.COUPLED, "it is a sum over pairs of the batch's samples")
        return run.stat(node, Quantity.COUNT if self.mask else Quantity.SUM, "it is a sum over the batch")

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> AbstractValue:
        if self.pairs:
            return run.stat(node, Quantity.COUPLED, _BY_PAIRS)
        return run.stat(node, Quantity.NONLINEAR, f"the {what} of a batch is no mean")

    def reduce(self, run: Interpreter, node: ast.expr, name: str, dimension: object) -> AbstractValue | None:
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

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
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

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        text = text_of(key)
        if text:
            if "loss" in text and not self.whole:
                return hugging_face_loss(run, node) if text == "loss" else run.stat(node, Quantity.UNKNOWN)
            return BatchRows(node, mask="mask" in text, output=self.output)
        if isinstance(key, BatchRows) and key.mask:
            return BatchRows(node, selected=True, mask=self.mask, output=self.output)
        parts = key.items if isinstance(key, Items) else []
        if any(isinstance(part, BatchRows) and part.mask for part in parts):
            return BatchRows(node, selected=True, output=self.output)
        columns = 1 if parts and isinstance(parts[-1], Const) and parts[-1].value is None else None
        return replace(self._like(node), mask=self.mask, selected=self.selected, columns=columns)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
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
class Stat(AbstractValue):
    """A number about one batch."""

    quantity: Quantity = Quantity.UNKNOWN
    why: str = ""
    origin: ast.AST | None = None
    call: ast.expr | None = None
    plain: ast.expr | None = None  # without its weight
    weight: Weight = Weight.NONE
    weight_node: ast.expr | None = None
    factor: AbstractValue | None = None
    loop: BatchLoop | None = None
    divided: AbstractValue | None = None  # by the number of batches, or of samples, before it is added
    divided_node: ast.expr | None = None
    twice: bool = False  # a mean that was divided by the batch's size
    named: bool = False  # only the name of a function says so
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

    def nonlinear(self, node: ast.expr, what: str) -> AbstractValue:
        if self.quantity in {Quantity.NONLINEAR, Quantity.COUPLED, Quantity.RUNNING}:
            return self.derived(node)
        return self.derived(node, quantity=Quantity.NONLINEAR, why=f"{what} is taken of each batch", origin=node)

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        return Count(node, CountedThing.SAMPLES, run.batch_loop())

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return self.derived(node, quantity=Quantity.MEAN) if self.quantity is Quantity.COUNT else self.derived(node)

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return self

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> AbstractValue:
        return self.derived(node)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return Shape(node, self) if name == "shape" else self

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return self

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        """A part of what is known by its name only: the part's own name says more."""
        known = name_tables.by_name(target.id) if isinstance(target, ast.Name) else None
        if known is None or not (self.named or self.quantity is Quantity.UNKNOWN):
            return self
        return replace(self, quantity=known[0], why=known[1], named=True)


@dataclass(eq=False)
class Count(AbstractValue):
    of: CountedThing = CountedThing.SAMPLES
    loop: BatchLoop | None = None
    number: int | None = None
    inverse: bool = False
    length_of: Length | None = None


@dataclass(eq=False)
class Position(AbstractValue):
    """The number of the batch in its loop, from 0, or how many there were so far."""

    loop: BatchLoop | None = None
    counts: bool = False
    offset: bool = False  # of the batch's first sample, as in range(0, n, batch_size)


@dataclass(eq=False)
class Shape(AbstractValue):
    """The shape of something that has a row for each sample."""

    of: AbstractValue | None = None

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        if isinstance(key, Const) and key.value == 0:
            return (self.of or Unknown(node)).length(run, node)
        if isinstance(node.slice, ast.Slice) and node.slice.lower is None:
            return self
        return Fixed(node) if isinstance(key, Const) and isinstance(key.value, int) else Unknown(node)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        if place > 0:
            return Fixed(target)
        of_batch = self.of is not None and self.of.is_of_batch()
        return Count(target, CountedThing.SAMPLES, run.batch_loop()) if of_batch else Unknown(target)


@dataclass(eq=False)
class LoopTotal(AbstractValue):
    """What batches were added to, one after the other; ``listed`` where they can still be told apart."""

    entries: tuple[Contribution, ...] = ()
    listed: bool = False
    weighted: AbstractValue | None = None  # they were multiplied by these

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        return self.entries

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        return LoopTotal(node, self.entries, True)

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        if not self.listed:
            return self
        if any(entry.spread or isinstance(entry.value, Pool) for entry in self.entries):
            return Pool(node)
        for entry in self.entries:
            entry.scalar = entry.scalar or not entry.spread
        divisor = Divisor.WEIGHTS if self.weighted is not None else Divisor.BATCHES
        return Averaged(node, self.entries, run.record_average(self.entries, node, divisor, None))

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return LoopTotal(node, self.entries, False, self.weighted)

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> AbstractValue:
        return Fixed(node)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return Shape(node, self) if name == "shape" else self

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return Fixed(node) if self.listed and _is_last_few(node.slice) else self

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        return self

    def item(self, target: ast.expr) -> AbstractValue:
        return self.entries[-1].value if self.listed and self.entries else self


@dataclass(eq=False)
class Averaged(AbstractValue):
    """A total after its division."""

    entries: tuple[Contribution, ...] = ()
    averages: tuple[Average, ...] = ()

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        return self.entries

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return replace(self, node=node)

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return self

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> AbstractValue:
        return Fixed(node)

    def nonlinear(self, node: ast.expr, what: str) -> AbstractValue:
        note_after(self.entries, self.averages, what)
        return replace(self, node=node)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return Shape(node, self) if name == "shape" else self

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return self

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        return self


@dataclass(eq=False)
class Pool(AbstractValue):
    """The rows of many batches, joined."""

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        return Count(node, CountedThing.DATASET)

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return Fixed(node)

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        return Fixed(node)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return self

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return self

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        return self


@dataclass(eq=False)
class LoaderValue(AbstractValue):
    loader: Loader = field(default_factory=lambda: Loader(None))
    dataset: AbstractValue | None = None
    sampler: AbstractValue | None = None
    counted: bool = False  # each batch comes with its number

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        return Count(node, CountedThing.BATCHES)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
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

    def _at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return self


@dataclass(eq=False)
class Dataset(AbstractValue):
    """Something with one entry for each sample."""

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        return Count(node, CountedThing.DATASET)

    def _at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return _entry(run, self, "", key, node)


@dataclass(eq=False)
class LossFunction(AbstractValue):
    """A loss of a library, ready to be called."""

    name: str = ""
    quantity: Quantity = Quantity.MEAN
    why: str = ""
    rows: bool = False  # reduction="none"

    def of(self, run: Interpreter, node: ast.expr, given: list[AbstractValue]) -> AbstractValue:
        """What it is for a prediction and a target."""
        if any(isinstance(value, (Pool, LoopTotal)) for value in given):
            return Pool(node)
        rows = [value for value in given if isinstance(value, BatchRows)]
        pairs = any(value.pairs for value in rows)
        if self.rows:
            return BatchRows(node, pairs=pairs)
        in_order = len(given) > 1 and isinstance(given[1], BatchRows) and given[1].order
        if in_order or (pairs and self.quantity is not Quantity.SUM):
            return run.stat(node, Quantity.COUPLED, _BY_PAIRS)
        if self.quantity is Quantity.MEAN and any(value.selected for value in rows):
            return run.stat(node, Quantity.RATIO, _BY_MASK)
        columns = {value.columns for value in given[:2] if isinstance(value, BatchRows)}
        if columns == {0, 1} and name_tables.is_elementwise(self.name):
            run.doubt(Topic.BROADCAST_SHAPES, node, "one side has a column for each sample and the other has none")
        stat = run.stat(node, self.quantity, self.why)
        stat.named = self.quantity is Quantity.MEAN and not name_tables.is_torch_loss(self.name)
        return stat


@dataclass(eq=False)
class MetricObject(AbstractValue):
    """An object that keeps what it needs over batches; ``quantity`` is what one call of it returns."""

    name: str = ""
    quantity: Quantity = Quantity.MEAN
    why: str = ""

    def of(self, run: Interpreter, node: ast.expr, given: list[AbstractValue]) -> AbstractValue:
        """What a call of it returns: the value of that batch."""
        if any(isinstance(value, (Pool, LoopTotal)) for value in given) or not any_of_batch(given):
            return Fixed(node)
        return run.stat(node, self.quantity, self.why)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return Unknown(node, name)


@dataclass(eq=False)
class Meter(AbstractValue):
    """An average of what it is given, of a class that is not in the file."""

    name: str = ""
    slots: dict[str, list[Contribution]] = field(default_factory=dict)
    weighs: bool = True
    born: tuple[int, ...] = ()

    def read(self, run: Interpreter, name: str, node: ast.AST) -> AbstractValue:
        """``meter.avg``: the average of what went in; ``meter["loss"]``: a part of it."""
        if name in {"val", "last", "sum", "count", "cnt", "n", "sums"}:
            return Fixed(node)
        if name not in self.slots and name not in name_tables.METER_READS:
            return self
        slots = [self.slots[name]] if name in self.slots else list(self.slots.values())
        entries = tuple(entry for slot in slots for entry in slot)
        if not entries:
            return Fixed(node)
        averages = (run.record_average((entry,), node, divisor_of_meter(entry.value), None) for entry in entries)
        return Averaged(node, entries, tuple(average for pair in averages for average in pair))

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return self.read(run, name, node)

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return self.read(run, key_of(node.slice), node)


@dataclass(eq=False)
class Function(AbstractValue):
    definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None = None
    scope: Scope | None = None
    me: AbstractValue | None = None
    given: tuple[AbstractValue, ...] = ()
    named: dict[str, AbstractValue] = field(default_factory=dict)


@dataclass(eq=False)
class Class(AbstractValue):
    definition: ast.ClassDef | None = None
    scope: Scope | None = None


@dataclass(eq=False)
class Instance(AbstractValue):
    of: Class | None = None
    attributes: dict[str, Binding] = field(default_factory=dict)

    @property
    def definition(self) -> ast.ClassDef | None:
        return self.of.definition if self.of is not None else None

    @property
    def scope(self) -> Scope | None:
        return self.of.scope if self.of is not None else None


@dataclass(eq=False)
class Items(AbstractValue):
    """A list, a tuple or an array: what it was written with, and what batches were added to it."""

    items: list[AbstractValue] = field(default_factory=list)
    entries: list[Contribution] = field(default_factory=list)
    born: tuple[int, ...] = ()
    array: bool = False
    start: ast.AST | None = None
    of_samples: bool = False  # one item for each sample of the batch
    tuple_: bool = False
    recent: bool = False  # only the last few are kept

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        return tuple(self.entries)

    def is_of_batch(self, depth: int = 3) -> bool:
        return depth > 0 and any(item.is_of_batch(depth - 1) for item in self.items)

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> AbstractValue:
        if self.entries:
            return LoopTotal(node, tuple(self.entries), True)
        if not self.items:
            return Count(node, CountedThing.BATCHES)
        if not self.is_of_batch():
            return Fixed(node)
        return Count(node, CountedThing.SAMPLES, run.batch_loop()) if self.of_samples else Const(node, len(self.items))

    def mean(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        if self.entries:
            return LoopTotal(self.node, tuple(self.entries), True).mean(run, node)
        return self._of_one_batch(run, node, Quantity.MEAN) or Unknown(node)

    def sum(self, run: Interpreter, node: ast.expr) -> AbstractValue:
        if self.entries:
            return LoopTotal(node, tuple(self.entries), False)
        return self._of_one_batch(run, node, Quantity.SUM) or Unknown(node, "", self.is_of_batch())

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> AbstractValue:
        return Fixed(node) if self.entries else self.mean(run, node)

    def _of_one_batch(self, run: Interpreter, node: ast.expr, quantity: Quantity) -> AbstractValue | None:
        """A list that was filled within one batch: of its samples, or of its parts."""
        if self.of_samples:
            return run.stat(node, quantity)
        stats = [item for item in self.items if isinstance(item, Stat)]
        if stats:
            return worst(stats).derived(node)
        return run.stat(node, quantity) if quantity is Quantity.MEAN and self.is_of_batch(4) else None

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        if name == "shape":
            return Shape(node, self)
        return self if name in {"T", "data"} else Unknown(node, name)

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        place = key.value if isinstance(key, Const) else None
        here = run.frame.scope.find(ast.unparse(node)) if self.array and isinstance(key, Const) else None
        if here is not None:
            return here.value
        if not self.entries:
            if isinstance(place, int) and -len(self.items) <= place < len(self.items):
                return self.items[place]
            return self.items[0] if self.items else Unknown(node, "", self.of_samples)
        if _is_last_few(node.slice):
            return Fixed(node)
        if place == -1 and not isinstance(node.slice, ast.Slice):
            return self.entries[-1].value
        return LoopTotal(node, tuple(self.entries), True)

    def part(self, run: Interpreter, place: int, target: ast.expr) -> AbstractValue:
        if self.entries:
            return LoopTotal(target, tuple(self.entries), True)
        return self.items[min(place, len(self.items) - 1)] if self.items else Unknown(target)

    def item(self, target: ast.expr) -> AbstractValue:
        if self.entries:
            return _read_again(self.entries[-1].value)
        if not self.items:
            return super().item(target)
        first = self.items[0]
        if isinstance(first, Const) and any(i.value != first.value for i in self.items if isinstance(i, Const)):
            return Unknown(target)  # `for batch_size in (1, 16, 64)`
        return first


@dataclass(eq=False)
class Mapping(AbstractValue):
    entries: dict[str, Binding] = field(default_factory=dict)
    born: tuple[int, ...] = ()
    makes: str = ""  # what a defaultdict makes: "list", "float", "meter", "dict"
    template: ast.expr | None = None  # of a dict: as written

    def is_of_batch(self, depth: int = 3) -> bool:
        return depth > 0 and any(binding.value.is_of_batch(depth - 1) for binding in self.entries.values())

    def values(self) -> list[AbstractValue]:
        return [binding.value for binding in self.entries.values()]

    def read(self, run: Interpreter, key: str, node: ast.AST) -> AbstractValue:
        """What it holds under a key, or under any where the key is "*"."""
        if key in self.entries:
            return self.entries[key].value
        if "*" in self.entries:
            return self.entries["*"].value
        if key == "*" and self.entries:
            return join_all(self.values())
        if self.makes:
            default = self._default(run, node)
            self.entries[key] = Binding(default, self.born, self.node)
            return default
        return Unknown(node, key)

    def _default(self, run: Interpreter, node: ast.AST) -> AbstractValue:
        if self.template is not None:
            default = run.evaluate(self.template)
            if isinstance(default, (Mapping, Items)):
                default.born = self.born
            if isinstance(default, Mapping):
                for entry in default.entries.values():
                    entry.born = self.born
            return default
        if self.makes == "list":
            return Items(node, born=self.born, start=self.node)
        return Meter(node, "defaultdict", born=self.born) if self.makes == "meter" else Const(node, 0)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> AbstractValue:
        return self.entries[name].value if name in self.entries else Unknown(node, name)

    def at(self, run: Interpreter, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
        return self.read(run, key_of(node.slice), node)


def _entry(run: Interpreter, base: AbstractValue, name: str, key: AbstractValue, node: ast.Subscript) -> AbstractValue:
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


def _by_key(node: ast.Subscript, text: str, name: str, of_batch: bool) -> AbstractValue:
    if text and name_tables.reads_as_batch_size(text):
        return Count(node, CountedThing.CONFIGURED)
    if name_tables.reads_as_loader(name) or "loader" in text.lower():
        return LoaderValue(node, Loader(node))
    return Unknown(node, text or name, of_batch)


def _is_slice_of_batch(run: Interpreter, node: ast.expr, key: AbstractValue) -> bool:
    """``x[i:i + batch_size]`` or ``x[order[i:j]]`` in a loop over batches."""
    if isinstance(key, BatchRows):
        return True
    if not isinstance(node, ast.Slice) or node.lower is None:
        return False
    return isinstance(run.evaluate(node.lower), (Position, Count, Fixed, Unknown))


def _is_last_few(node: ast.expr) -> bool:
    """``[-100:]``; not ``[-len(loader):]``, which is an epoch."""
    lower = node.lower if isinstance(node, ast.Slice) else None
    return isinstance(lower, ast.UnaryOp) and isinstance(lower.op, ast.USub) and isinstance(lower.operand, ast.Constant)


def _is_sum_of_losses(name: str, node: ast.expr) -> bool:
    """``sum(losses)`` of the losses that a model returns: the builtin, which goes over a list."""
    builtin = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return builtin and REDUCTIONS.get(name) in {"sum", "count"} and "loss" in ast.unparse(node)


def _read_again(value: AbstractValue) -> AbstractValue:
    """A batch's value that is taken off a list later is not the loop's last one."""
    if isinstance(value, Stat):
        return replace(value, loop=None)
    if isinstance(value, Items) and not value.entries:
        return replace(value, items=[_read_again(item) for item in value.items])
    return value


def keeps_rows(dimension: object) -> bool:
    """Whether there is still a row for each sample after a reduction over that dimension."""
    if dimension is ...:
        return True
    if isinstance(dimension, list):
        return 0 not in dimension
    return isinstance(dimension, int) and not isinstance(dimension, bool) and dimension != 0


def divisor_of_meter(value: AbstractValue) -> Divisor:
    """What a meter divides by, of the weight that its values come with."""
    if isinstance(value, Stat) and value.weight is not Weight.NONE:
        by_weight = {Weight.SAMPLES: Divisor.SAMPLES, Weight.CONFIGURED: Divisor.CONFIGURED}
        return by_weight.get(value.weight, Divisor.WEIGHTS)
    return Divisor.BATCHES


def named(name: str, node: ast.AST, of_batch: bool = False, parameter: bool = False) -> AbstractValue:
    """What a name says by itself."""
    if name_tables.reads_as_batch_size(name) and not of_batch:
        return Count(node, CountedThing.CONFIGURED)
    if name_tables.reads_as_loader(name):
        return LoaderValue(node, Loader(node if isinstance(node, ast.expr) else None))
    return Dataset(node) if name in _DATASETS else Unknown(node, name, of_batch, parameter)


def as_loader(value: AbstractValue, name: str) -> AbstractValue:
    """What nothing is known of but that its name is a loader's."""
    if isinstance(value, Unknown) and not value.of_batch and not value.length_of and name_tables.reads_as_loader(name):
        return LoaderValue(value.node, Loader(value.node if isinstance(value.node, ast.expr) else None))
    return value


def argument(run: Interpreter, name: str, node: ast.AST) -> AbstractValue:
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


def key_of(node: ast.expr) -> str:
    """The key that is written there; "*" where it is not a text."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "*"


def text_of(key: AbstractValue) -> str:
    """The text that a key is; "" where it is none."""
    return key.value if isinstance(key, Const) and isinstance(key.value, str) else ""


def worst(stats: list[Stat]) -> Stat:
    """The one that harms an average most."""
    return max(stats, key=lambda stat: HARM.index(stat.quantity))


@dataclass(frozen=True, eq=False)
class Invocation:
    """A call as it is read: the last name of what is called, and what it is given."""

    node: ast.Call
    name: str
    arguments: list[AbstractValue]
    keywords: dict[str, AbstractValue]

    @property
    def first(self) -> AbstractValue | None:
        return self.arguments[0] if self.arguments else None

    @property
    def given(self) -> list[AbstractValue]:
        return [*self.arguments, *self.keywords.values()]

    def is_given_batch(self) -> bool:
        return any_of_batch(self.given)

    def dimension(self, at: int) -> object:
        """The dimension that is reduced: None for all, a number, a list of numbers, or ... where it is not known."""
        value = self.keywords.get("dim") or self.keywords.get("axis")
        if value is None:
            rest = self.arguments[at:]
            if len(rest) > 1 and all(isinstance(a, Const) and isinstance(a.value, int) for a in rest):
                return [a.value for a in rest if isinstance(a, Const)]
            value = rest[0] if rest else Const(None)
        if isinstance(value, Const):
            return value.value
        if isinstance(value, Items) and value.items and all(isinstance(item, Const) for item in value.items):
            return [item.value for item in value.items if isinstance(item, Const)]
        return ...


def any_of_batch(values: Iterable[AbstractValue]) -> bool:
    """Whether a batch went into one of them."""
    return any(value.is_of_batch() for value in values)


#: Of two values that a name may hold, the one that says more comes later.
_SAYS = (Unknown, Const, Fixed, Count, Library, BatchRows, Items, Mapping, Stat, Averaged, LoopTotal)


def join(first: AbstractValue, second: AbstractValue) -> AbstractValue:
    """What a name holds after two branches."""
    if first is second:
        return first
    if isinstance(first, LoopTotal) and isinstance(second, LoopTotal):
        entries = united(first.entries, second.entries)
        return LoopTotal(first.node, entries, first.listed, first.weighted or second.weighted)
    if isinstance(first, Averaged) and isinstance(second, Averaged):
        return Averaged(first.node, united(first.entries, second.entries), first.averages + second.averages)
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


def join_all(values: list[AbstractValue]) -> AbstractValue:
    """What a name holds after several branches."""
    value = values[0]
    for other in values[1:]:
        value = join(value, other)
    return value


def united(first: tuple[Contribution, ...], second: tuple[Contribution, ...]) -> tuple[Contribution, ...]:
    """The contributions of both, each once."""
    return first + tuple(entry for entry in second if entry not in first)


def _says(value: AbstractValue) -> int:
    if isinstance(value, Const) and value.value is None:
        return -1
    return _SAYS.index(type(value)) if type(value) in _SAYS else len(_SAYS)


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


Arguments = list[AbstractValue]
Keywords = dict[str, AbstractValue]
