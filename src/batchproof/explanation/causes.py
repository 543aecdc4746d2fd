"""From a recorded program to the reasons: where, on the way to the result, a value stops being a mean over samples.

Each value is given a nature: what it is made of, told from the operations alone, never from what the numbers happened
to be.  Sums are made of samples, means are sums over a count, and what is done to those and is not linear is a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from batchproof.derive import CallSite, Free, Kind, Op, Program, ProgramValue, Ref, Size, base_name, leaves
from batchproof.explanation.cause_texts import finding
from batchproof.explanation.influence import Influence
from batchproof.explanation.operators import (
    ADDS,
    COLUMNS_BY_THE_WAY,
    DIVIDES,
    GUARDS,
    LINEAR,
    MAKES_COLUMNS,
    ORDERS,
    PAIRS,
    PIECEWISE,
    ranks,
    word_of,
)
from batchproof.explanation.result import Code, Finding
from batchproof.ground.place import place

#: shared: no sample reaches it.  count: the number of samples, times something fixed.  sizes: it follows that number in
#: another way.  stat: of the batch, and no longer linear.  rows: sample by sample; part: those over a count; centred:
#: those, given a statistic.  matrix: every sample with every sample.  mixed: in an order, or a choice.
Nature = Literal[
    "shared", "count", "sizes", "sum", "mean", "extreme", "stat", "rows", "part", "centred", "matrix", "mixed"
]  # fmt: skip

MOST = 4
#: Whether a value was the number of samples, times something fixed, in every batch that was tried.
Counts = Callable[[int], bool]
ANOTHER_DIVISOR = {
    "title": "divided by something else than the number of samples",
    "what": "by n - 1, n squared or the like, so the value follows the size of its batch",
    "remedy": "divide by the number of samples",
}
MOVES_TOGETHER = "what this line gives for one sample moves when another sample of the batch is replaced"
ONE_OF_ALL = "this line makes one value of all samples of the batch, and it is no sum over them"
BY_A_STATISTIC = "each sample is measured by a statistic of its batch, not by that of all samples"
SIZES_OF_SELECTIONS = {
    "title": "a ratio of sizes",
    "what": "the share of samples that a selection keeps enters the value of each batch, and differs between them",
}
ASSUMED = "here it is the number of samples; where one is left out or weighs less, batches differ in it"


@dataclass
class Reasons:
    """What a program says: causes in the order in which they act, and whether its result is a mean for certain."""

    causes: list[Finding[Code]] = field(default_factory=list)
    proved: bool = False


def reasons(
    program: Program, counts: Counts, influence: Influence, names: Sequence[str] = (), leaf: int | None = None
) -> Reasons:
    """Walk the program from the samples to the result.

    Args:
        program: as recorded.
        counts: whether a value was the number of samples, times something fixed, in every batch that was tried.
        influence: which samples a value comes from, where the operator does not say.
        names: of the inputs, for the report.
        leaf: which of the leaves of its result to look at; all of them if None.
    """
    result = program.result if leaf is None else program.result[leaf : leaf + 1]
    walk = _Walk(program, result, counts, influence, names)
    for op in program.ops:
        walk.step(op)
    results = {walk.nature_of(end) for end in result if isinstance(end, Ref)}
    means = "mean" in results and results <= {"mean", "shared"} and all(cause.harmless for cause in walk.found)
    if "sum" in results:
        walk.note("sum", walk.last_sum)
    elif means:
        walk.note("mean", walk.last_mean)
    return Reasons(walk.found[:MOST], means and not walk.assumed)


class _Walk:
    def __init__(
        self, program: Program, result: Sequence[Any], counts: Counts, influence: Influence, names: Sequence[str]
    ) -> None:
        self.program = program
        self.counts = counts
        self.influence = influence
        self.names = dict(zip(program.inputs, names, strict=False))
        self.selected: set[int] = set()
        self.assumed = False
        self.natures: dict[int, Nature] = {}
        self.found: list[Finding[Code]] = []
        self.last_sum: CallSite | None = None
        self.last_mean: CallSite | None = None
        self.live = _live(program, result)
        self.takers = {
            leaf.position: number
            for number, op in enumerate(program.ops)
            for leaf in leaves((op.args, op.kwargs))
            if isinstance(leaf, Free)
        }
        for value in program.values:
            if value.op is None:
                self.natures[value.index] = _given_nature(value)

    def step(self, op: Op) -> None:
        """Give the outputs of one operation their natures, and note what it does wrong."""
        name = base_name(op).removesuffix("_copy") or base_name(op)
        operands = [
            self.nature_of(leaf) for leaf in leaves((op.args, op.kwargs)) if isinstance(leaf, (Ref, Free, Size))
        ]
        for output in self.live.intersection(op.outputs):
            value = self.program.values[output]
            wide = _batch_dims(value)
            if len(wide) > 1:
                nature = self._pairs(op, name)
            elif wide:
                nature = self._rows(op, name, operands, value)
            elif _has(operands, "rows", "part", "centred", "matrix", "mixed"):
                nature = self._reduced(op, name, operands, value)
            else:
                nature = self._combined(op, name, operands, value)
            self.natures[output] = nature

    def nature_of(self, leaf: Any) -> Nature:
        """The nature of an operation's argument."""
        if isinstance(leaf, Ref):
            return self.natures.get(leaf.index, "shared")
        if isinstance(leaf, Size):
            return "stat" if leaf.of is not None else "sizes" if leaf.offset else "count"
        if isinstance(leaf, Free):
            follows = _followed(self.program.free[leaf.position], self.program.sizes)
            by_size = follows == "stat" and not self.influence.reads_data(self.takers[leaf.position])
            return "sizes" if by_size else follows
        return "shared"

    def note(self, code: Code, site: CallSite | None, **words: Any) -> None:
        """Note a cause once: the first line that has it is the one to blame."""
        where = None if site is None or site.line == 0 else place(site.file, site.line)
        if not any(cause.code == code for cause in self.found):
            self.found.append(finding(code, where, **words))

    def _pairs(self, op: Op, name: str) -> Nature:
        tensors = [leaf for leaf in leaves((op.args, op.kwargs)) if isinstance(leaf, Ref)]
        values = [self.program.values[leaf.index] for leaf in tensors]
        if any(len(_batch_dims(value)) > 1 for value in values):
            return "matrix"
        shapes = self._accident(op)
        if shapes:
            self.note("broadcast", op.site, what=f"{shapes} gives (B, B): every sample is paired with every other one")
        elif name in PAIRS or not any(cause.code == "broadcast" for cause in self.found):
            self.note("couples", op.site)
        return "matrix"

    def _accident(self, op: Op) -> str:
        """(B, 1) against (B,), where nothing shows that the pairs are meant."""
        alike = [other for other in self.program.ops if other.step == op.step or other.site == op.site]
        partners = [other for other in alike if self._is_matrix(other)]
        tensors = {
            leaf.index for other in partners for leaf in leaves((other.args, other.kwargs)) if isinstance(leaf, Ref)
        }
        flat = [index for index in tensors if self._shape(index) == ("B",)]
        weighted = any(base_name(other) in ("mul", *DIVIDES) for other in partners)
        column = [
            index
            for index in tensors
            if self._shape(index) == ("B", 1) and not self._is_meant(index, flat, weighted=weighted)
        ]
        if not flat or not column:
            return ""
        return f"{self._called(column[0])}(B, 1) against {self._called(flat[0])}(B,)"

    def _is_meant(self, column: int, flat: Sequence[int], *, weighted: bool) -> bool:
        """Whether pairs are asked for: samples against themselves, distances by a matrix product, ``a[:, None] - b``.

        Weights of samples are not: ``loss[:, None] * weight``, where the loss had lost its dimension before.
        """
        if any(base_name(op) in PAIRS and self._is_matrix(op) for op in self.program.ops):
            return True
        made = self._made_column(column)
        if made and any(self._origins(column) == self._origins(index) for index in flat):
            return True
        return made == "asked" and not weighted

    def _is_matrix(self, op: Op) -> bool:
        return any(len(_batch_dims(self.program.values[output])) > 1 for output in op.outputs)

    def _origins(self, index: int) -> set[int]:
        """The inputs that a value is made of."""
        seen, waiting = set[int](), [index]
        while waiting:
            found = waiting.pop()
            number = self.program.values[found].op
            if found not in seen and number is not None:
                waiting.extend(self.program.ops[number].inputs)
            seen.add(found)
        return seen.intersection(self.program.inputs)

    def _called(self, index: int) -> str:
        return f"{self.names[index]} " if index in self.names else ""

    def _made_column(self, index: int) -> Literal["", "asked", "kept"]:
        """Whether the function made it a column: asked for by ``[:, None]``, or kept by ``keepdim=True``."""
        seen, waiting = set(), [index]
        while waiting:
            number = self.program.values[waiting.pop()].op
            if number is None or number in seen:
                continue
            seen.add(number)
            op = self.program.ops[number]
            columns = [source for source in op.inputs if self._shape(source) == ("B", 1)]
            # a layer with one output, or one column of a table, is a column that nobody asked for
            if not columns and base_name(op) not in COLUMNS_BY_THE_WAY:
                return "asked" if base_name(op) in MAKES_COLUMNS else "kept"
            waiting.extend(columns)
        return ""

    def _shape(self, index: int) -> tuple[Any, ...]:
        return tuple("B" if isinstance(size, Size) else size for size in self.program.values[index].shape)

    def _rows(self, op: Op, name: str, operands: Sequence[Nature], value: ProgramValue) -> Nature:
        if _has(operands, "matrix"):
            return "matrix"
        if not _has(operands, "rows", "part", "centred", "mixed"):
            return "centred" if _has(operands, "mean", "sum", "stat", "extreme") else "rows"
        stays_apart = value.kind in (Kind.ROWS, Kind.BLOCKS) or "mixed" in operands
        stays_apart = stays_apart or ("centred" in operands and name not in ORDERS)  # by its statistic alone
        mixes = not stays_apart and self.influence.mixes(value.index)
        if mixes and name in ORDERS:
            self.note("order", op.site, what=ranks(name))
            return "mixed"
        if _has(operands, "mean", "sum", "stat", "extreme"):
            return self._conditional(op, name, operands)
        if mixes and value.kind is Kind.OPAQUE:
            self.note("couples", op.site, what=MOVES_TOGETHER)
            return "mixed"
        if "mixed" in operands:
            return "mixed"
        if "sizes" in operands and name in (*DIVIDES, "mul"):
            self.note("divisor", op.site, **ANOTHER_DIVISOR)
            return "centred"
        if "count" in operands and name in (*DIVIDES, "mul"):
            return "part"
        return "centred" if "centred" in operands else "part" if "part" in operands else "rows"

    def _conditional(self, op: Op, name: str, operands: Sequence[Nature]) -> Nature:
        """Samples meet a statistic of their batch."""
        if name == "sub" and "extreme" in operands and not _has(operands, "mean", "sum", "stat"):
            return "rows"  # the shift of a stable log-sum-exp: it cancels
        if name in DIVIDES:
            self.note("ratio", op.site, what="each sample is divided by a total of its batch")
        elif name in (*ADDS, "addcmul"):
            self.note("centred", op.site)
        elif name not in ("index", "gather", "index_select", *LINEAR):
            self.note("centred", op.site, title="measured by the batch", what=BY_A_STATISTIC)
        return "centred"

    def _reduced(self, op: Op, name: str, operands: Sequence[Nature], value: ProgramValue) -> Nature:
        """The samples become one value."""
        if value.kind in (Kind.MAX, Kind.MIN, Kind.ANY, Kind.ALL):
            if value.kind in (Kind.MAX, Kind.MIN) and not self._is_shift(value):
                self.note("extreme", op.site)
            return "extreme"
        if value.kind is Kind.SUM:
            self.last_sum = op.site
            if any(_is_selected(self.program.values[index]) for index in op.inputs):
                self.selected.update(op.outputs)
            if _has(operands, "centred") or _has(operands, "stat", "mean", "sum"):
                return "stat"
            if "part" in operands:
                self.last_mean = op.site
                return "mean"
            return "sum"
        if name in ("sum", "mean") and not _has(operands, "centred", "mixed", "matrix", "stat", "mean", "sum"):
            return self._of_rows(op, name, operands)
        if name in ORDERS:
            self.note("order", op.site, what=ranks(name))
        elif not _has(operands, "matrix", "mixed", "centred"):
            self.note("couples", op.site, what=ONE_OF_ALL)
        return "stat"

    def _of_rows(self, op: Op, name: str, operands: Sequence[Nature]) -> Nature:
        """The sum or mean of samples that lie in no order that the engine keeps: frames of a spectrogram, say."""
        if name == "sum" and "part" not in operands:
            self.last_sum = op.site
            return "sum"
        self.last_mean = op.site
        return "mean"

    def _is_shift(self, value: ProgramValue) -> bool:
        """Whether a maximum only steadies an exponential: then samples are shifted by it, and it comes back later."""
        users = [op for op in self.program.ops if value.index in op.inputs]
        return any(base_name(op) == "sub" and _has([self.nature_of(Ref(i)) for i in op.inputs], "rows") for op in users)

    def _combined(self, op: Op, name: str, operands: Sequence[Nature], value: ProgramValue) -> Nature:
        """Values of the whole batch meet each other."""
        kinds: set[Nature] = {nature for nature in operands if nature != "shared"}
        if not kinds:
            return "shared"
        if kinds <= {"count", "sizes"}:
            return "count" if kinds == {"count"} and name not in ADDS else "sizes"
        if name in DIVIDES:
            return self._divided(op)
        if name == "mul" and "count" in kinds and len(kinds) == 2:
            return self._times_count(op, kinds - {"count"})
        if name in ADDS:
            return self._added(op, operands, kinds)
        linear = (
            name in LINEAR
            or (name == "mul" and operands.count("shared") == len(operands) - 1)
            or (name == "mul" and len(operands) == 1)
        )
        if linear and len(kinds) == 1:
            return kinds.pop()
        if linear:
            return "mean" if kinds <= {"mean", "count"} else "stat"
        return self._nonlinear(op, name, kinds)

    def _divided(self, op: Op) -> Nature:
        above, below = (self.nature_of(leaf) for leaf in op.args[:2])
        if below == "sizes" and isinstance(op.args[1], Ref) and self.counts(op.args[1].index):
            below = "count"  # n + 0, as in a running total that starts here
        selects = isinstance(op.args[0], Ref) and op.args[0].index in self.selected
        if below == "sizes" and selects:
            below = "stat"  # how many it keeps: few in a bin of a calibration error, and the same few by chance
        if below == "shared":
            return above
        if below == "count" and selects:
            return self._ratio_of_counts(op)
        if below == "count":
            if above == "sum":
                self.last_mean = op.site
                return "mean"
            if above in ("mean", "shared"):
                self.note("divisor", op.site)
            return "stat"
        if below == "sizes":
            if above in ("mean", "sum", "shared"):
                self.note("divisor", op.site, **ANOTHER_DIVISOR)
            return "stat"
        if above in ("shared", "count", "sizes") and below == "mean":
            self.note("nonlinear", op.site, what="the reciprocal is taken in each batch")
            return "stat"
        if above in ("sum", "stat") and isinstance(op.args[1], Ref) and self.counts(op.args[1].index):
            return self._ratio_of_counts(op) if above == "sum" else "stat"
        self.note("ratio", op.site)
        return "stat"

    def _ratio_of_counts(self, op: Op) -> Nature:
        """The denominator comes from the data, and happened to be the number of samples."""
        self.assumed = True
        self.note("ratio", op.site, what=ASSUMED, harmless=True)
        self.last_mean = op.site
        return "mean"

    def _times_count(self, op: Op, others: set[Nature]) -> Nature:
        if others == {"mean"}:
            self.last_sum = op.site
            return "sum"
        return "stat"

    def _added(self, op: Op, operands: Sequence[Nature], kinds: set[Nature]) -> Nature:
        if "shared" in operands and kinds <= {"sum", "mean"} and self._is_term(op):
            plain = kinds == {"mean"}
            what = (
                "an average over batches counts it once; a sum over batches would count it once per batch"
                if plain
                else ""
            )
            self.note("constant-term", op.site, what=what, harmless=plain)
            return "mean" if plain else "stat"
        if kinds == {"sum", "count"}:
            return "sum"
        if kinds & {"count", "sizes"}:
            self.note("size", op.site)
        elif {"mean", "sum"} <= kinds:
            self.note("mean-and-sum", op.site)
        return next(iter(kinds)) if len(kinds) == 1 else "stat"

    def _is_term(self, op: Op) -> bool:
        """A tensor of the user's, not a number like 1e-6 or a fresh tensor of zeros."""
        waiting = [leaf.index for leaf in op.args if isinstance(leaf, Ref) and self.nature_of(leaf) == "shared"]
        while waiting:
            number = self.program.values[waiting.pop()].op
            if number is None:
                return True
            waiting.extend(self.program.ops[number].inputs)
        return False

    def _is_length(self, leaf: Any) -> bool:
        """Whether a number is made of the length of a selection: nothing else that Python computes is read nowhere."""
        if isinstance(leaf, Size):
            return leaf.of is not None
        return isinstance(leaf, Free) and self.nature_of(leaf) == "stat" and not self.program.reads

    def _nonlinear(self, op: Op, name: str, kinds: set[Nature]) -> Nature:
        if name in GUARDS and (kinds <= {"sum", "count"} or "stat" in kinds):
            return "sum" if kinds <= {"sum", "count"} else "stat"
        if kinds <= {"extreme"}:
            return "extreme"
        if "sizes" in kinds:
            self.note("size", op.site)
        elif name == "mul" and any(self._is_length(leaf) for leaf in op.args):
            self.note("ratio", op.site, **SIZES_OF_SELECTIONS)
        elif name in PIECEWISE:
            self.note("limit", op.site, what=f"{word_of(op, name)} is taken in each batch")
        elif name == "reciprocal" and kinds == {"sum"}:  # weights of classes: 1 / counts, len(labels) / counts
            self.note("ratio", op.site)
        else:
            self.note("nonlinear", op.site, what=f"{word_of(op, name)} is taken in each batch")
        return "stat"


def _live(program: Program, result: Sequence[Any]) -> set[int]:
    """The values on the way to the result, which may be a number that Python read.  A check of the inputs is not."""
    live = {leaf.index for leaf in result if isinstance(leaf, Ref)}
    live = live or {read.value for read in program.reads if not isinstance(read.seen, bool)}
    for op in reversed(program.ops):
        if any(output in live for output in op.outputs):
            live.update(op.inputs)
    return live


def _given_nature(value: ProgramValue) -> Nature:
    if value.kind is Kind.ROWS and value.from_data:
        return "rows"
    return "shared" if value.kind is Kind.SHARED else "count"


def _is_selected(value: ProgramValue) -> bool:
    return any(isinstance(size, Size) and size.of is not None for size in value.shape)


def _batch_dims(value: ProgramValue) -> list[int]:
    return [dim for dim, size in enumerate(value.shape) if isinstance(size, Size)]


def _has(natures: Iterable[Nature], *wanted: Nature) -> bool:
    return any(nature in wanted for nature in natures)


def _followed(seen: Sequence[Any], sizes: Sequence[int]) -> Nature:
    """Whether a number follows the number of samples: in proportion, or as n - 1, n squared and the like do."""
    if len(seen) != len(sizes) or any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in seen):
        return "stat"
    pairs = [(float(n), float(x)) for n, x in zip(sizes, seen, strict=True)]
    if _fits(pairs, lambda n: n, lambda n: 0.0):
        return "count"
    follows = _fits(pairs, lambda n: n, lambda n: 1.0) or _fits(pairs, lambda n: n * n, lambda n: n)
    return "sizes" if follows else "stat"


def _fits(
    pairs: Sequence[tuple[float, float]], first: Callable[[float], float], second: Callable[[float], float]
) -> bool:
    """Whether x = a first(n) + b second(n) for all pairs (n, x), with the a and b that two of them give."""
    (n0, x0), (n1, x1) = pairs[0], pairs[-1]
    scale = first(n0) * second(n1) - first(n1) * second(n0)
    if scale:
        a = (x0 * second(n1) - x1 * second(n0)) / scale
        b = (first(n0) * x1 - first(n1) * x0) / scale
    else:
        a, b = x0 / first(n0), 0.0
    return all(abs(a * first(n) + b * second(n) - x) <= 1e-9 * abs(x) for n, x in pairs)
