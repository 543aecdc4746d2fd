"""One place where a script averages over batches, in parts.

The parts are nodes of the tree that was searched, so that a linter can point at them and a runner can rewrite them.
What a part means is said by enumerations and short sentences; whether it is wrong is for the rules to say.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from enum import Enum


class Quantity(Enum):
    """What one batch contributes."""

    MEAN = "a mean over the batch's samples"
    NONLINEAR = "a nonlinear function of a mean over the batch"
    RATIO = "a ratio whose denominator depends on the batch"
    COUPLED = "a loss that compares the samples of a batch with each other"
    SUM = "a sum over the batch's samples"
    COUNT = "how many samples, or how many of them are right"
    RUNNING = "a total or an average that runs on over the batches"
    ROWS = "one value for each sample"
    UNKNOWN = "a value that the source does not explain"


class Weight(Enum):
    """What the contribution is multiplied by."""

    NONE = "nothing"
    SAMPLES = "how many samples the batch has"
    CONFIGURED = "the batch size that was asked for"
    OWN = "what the value itself divides by, as tokens or weights"
    OTHER = "a count of something else than what the value averages over"


class Divisor(Enum):
    """What the total is divided by."""

    BATCHES = "the number of batches"
    SAMPLES = "the number of samples that were added"
    DATASET = "the length of the dataset"
    WEIGHTS = "the sum of the weights"
    CONFIGURED = "the number of batches times the batch size that was asked for"
    NOTHING = "nothing"
    UNKNOWN = "something that the source does not explain"


class Phase(Enum):
    """What the loop is for."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Loader:
    """What a loop takes its batches from.

    Attributes:
        node: the loop's iterable as written, without ``enumerate`` and ``tqdm``.
        built: the call that builds it, where the file has it.
        drops_last: whether no batch is short, because a short last one is dropped, or batches are drawn at random;
            None where the file does not say.
        batch_size: the number, where the file says one.
    """

    node: ast.expr | None
    built: ast.Call | None = None
    drops_last: bool | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class EpochLoop:
    """A loop over batches, or the method that a trainer calls once a batch.

    Attributes:
        node: the ``for`` statement or comprehension; the function, where a trainer's loop calls it.
    """

    node: ast.For | ast.AsyncFor | ast.While | ast.comprehension | ast.FunctionDef | ast.AsyncFunctionDef
    loader: Loader
    phase: Phase


@dataclass(frozen=True)
class Added:
    """What one batch contributes.

    Attributes:
        node: the expression, without its weight: ``loss.item()`` of ``total += loss.item() * len(x)``.
        quantity: what it is.
        why: what makes it so, as half a sentence that follows "because": "the square root is taken in each batch".
        origin: the expression that was recognized, perhaps in a helper function: the call of a loss, a square root.
        call: the expression in the loop whose value it is, before ``.item()`` and the like: ``rmse(pred, y)``.
        weight: what it is multiplied by.
        weight_node: that factor as written.
        twice: it is a mean, and was divided by the batch's size once more.
        steps: the number of accumulation steps that it was divided by.
        named: only a name says what it is.
        kept: a metric object gave it, which keeps what it needs over the batches.
    """

    node: ast.expr
    quantity: Quantity
    why: str = ""
    origin: ast.AST | None = None
    call: ast.expr | None = None
    weight: Weight = Weight.NONE
    weight_node: ast.expr | None = None
    twice: bool = False
    steps: ast.expr | None = None
    named: bool = False
    kept: bool = False


@dataclass(frozen=True)
class Average:
    """An expression whose value is reported: the total after its division.

    Attributes:
        node: ``total / len(loader)``, ``np.mean(losses)``, ``meter.avg``; for ``total /= n`` the statement.
        divisor: what the total is divided by.
        divisor_node: that as written.
        inside: it is read in the loop, as the line of a progress bar is.
        window: it is over the last few batches, and starts anew: a progress line rather than a result.
        after: a nonlinear function that is applied to the average afterwards, by name.
        own: what it is divided by was counted in the loop itself, so that a batch that was passed over is not in it.
    """

    node: ast.AST
    divisor: Divisor
    divisor_node: ast.expr | None = None
    inside: bool = False
    window: bool = False
    after: str = ""
    own: bool = False


@dataclass(frozen=True)
class AverageSite:
    """One accumulator in one loop.

    Attributes:
        name: the accumulator as written: ``total_loss``, ``self.losses``, ``meters["acc"]``.
        reported: the names that its average goes by: ``train_loss``, what a caller binds, a log's key.
        loop: the loop.
        add: the statement that adds a batch.
        added: what it adds.
        starts: the statements that set the accumulator to its first value.
        averages: the expressions that are reported; empty where none was found.
        function: the name of the function that the loop stands in; "" at the module's top.
        labels: what is printed directly before its average.
    """

    name: str
    loop: EpochLoop
    add: ast.AST
    added: Added
    starts: tuple[ast.AST, ...] = ()
    averages: tuple[Average, ...] = ()
    reported: tuple[str, ...] = ()
    function: str = ""
    labels: tuple[str, ...] = ()


class Topic(Enum):
    """What else than an average over batches may be doubtful."""

    ONLY_LAST_BATCH = "only the last batch"
    DROPPED_TAIL = "evaluation drops its tail"
    PADDED_SAMPLER = "padded sampler"
    SUM_OF_MEANS = "a sum of means is reported"
    DIVIDED_ACCUMULATION = "accumulation divided"
    BROADCAST_SHAPES = "broadcast shapes"
    RANK_METRICS = "a ratio or a nonlinear metric of each rank is averaged over the ranks"
    RANK_MEANS = "a mean of each rank is averaged over the ranks"
    LOSS_OVER_RANKS = "a loss is divided by the number of ranks"
    SAME_ORDER = "a sampler that is not told the epoch"
    REPEATS = "repeated samples are gathered"
    ONE_RANK = "one rank's number is reported"


@dataclass(frozen=True)
class Suspicion:
    """Something else that the rules look at: a loader, a division of a loss, a comparison of shapes.

    Attributes:
        topic: what it is about, by which a rule takes it up.
        node: where.
        why: what makes it so, as half a sentence.
    """

    topic: Topic
    node: ast.AST
    why: str


@dataclass(frozen=True)
class Script:
    """All that was found in one file, in the order of its lines."""

    sites: tuple[AverageSite, ...] = ()
    suspicions: tuple[Suspicion, ...] = field(default=())
