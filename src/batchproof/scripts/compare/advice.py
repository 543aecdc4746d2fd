"""What is wrong and what to change, each with its line and its size; the most important first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchproof.ground.place import Place
from batchproof.scripts.compare.bill import change, decimals_of, times
from batchproof.scripts.compare.comparison import Advice, ComparedNumber, ComparisonRow
from batchproof.scripts.compare.plan import steps_with_sum
from batchproof.scripts.compare.record import RunOutcome
from batchproof.scripts.compare.split import DifferenceCause
from batchproof.scripts.compare.verdict import is_mistaken, is_noticed
from batchproof.scripts.run import MeasuredAccumulator

_Moved = tuple[ComparedNumber, ComparisonRow, float]
_EXACT = "score the samples of all batches together: batchproof.exact does, batch by batch"
_MADE_RIGHT = {"statistics": DifferenceCause.STATISTICS, "duplicates": DifferenceCause.COPIES}


def advice(numbers: Sequence[ComparedNumber], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    """All there is to say.

    Args:
        numbers: what was compared.
        outcomes: the plain runs.
    """
    yield from _seen(numbers, outcomes)
    for cause, say in (
        (DifferenceCause.ONE_RANK, _one_rank),
        (DifferenceCause.RANK_MEANS, _rank_means),
        (DifferenceCause.COPIES, _copies),
        (DifferenceCause.ARITHMETIC, _arithmetic),
        (DifferenceCause.LEFT_OUT, _left_out),
        (DifferenceCause.SHORT_BATCH, _short),
    ):
        yield from say(_moved(numbers, cause), outcomes)
    yield from _sum(numbers, outcomes)
    yield from _totals(numbers)
    yield from _updates(numbers)


def _moved(numbers: Sequence[ComparedNumber], cause: DifferenceCause) -> list[_Moved]:
    """The numbers that a cause moves, where it moves them most, and by how much."""
    found = []
    for each in numbers:
        parts = [(row, part) for row in each.rows if (part := row.part(cause)) is not None]
        row, part = max(parts, key=lambda pair: abs(pair[1].value), default=(None, None))
        if row is not None and part is not None and is_noticed(part, row):
            found.append((each, row, part.value))
    return found


def _amounts(moved: Sequence[_Moved]) -> str:
    """``+0.027 of train_loss at 128, -0.010 of test_loss at 64``."""
    said = []
    for each, row, amount in moved:
        at = f"at {row.size:,}" if each.by == "batch size" else f"on {each.at(row)}"
        said.append(f"{change(amount, decimals_of(each))} of {each.name} {at}")
    return ", ".join(said)


def _with(each: ComparedNumber, row: ComparisonRow) -> str:
    return f"with batches of {row.size}" if each.by == "batch size" else f"on {each.at(row)}"


def _seen(numbers: Sequence[ComparedNumber], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    """What only a run shows, and is wrong; each line once, whatever the batch size."""
    places = set()
    for outcome in outcomes:
        for seen in outcome.run.seen:
            at = (seen.kind, str(seen.place))
            if seen.harmless or at in places:
                continue
            places.add(at)
            evaluated = [each for each in numbers if each.phase != "training"]
            moved = _moved(evaluated, _MADE_RIGHT[seen.kind]) if seen.kind in _MADE_RIGHT else []
            by = f" ({_amounts(moved)})" if moved else ""
            yield Advice(seen.title, f"{seen.what}{by}", seen.place, seen.remedy, True)


def _row(each: ComparedNumber, outcomes: Sequence[RunOutcome]) -> MeasuredAccumulator | None:
    rows = (
        reading.row
        for outcome in outcomes
        for reading in outcome.readings
        if (reading.name, reading.phase, reading.place) == (each.name, each.phase, each.place)
    )
    return next(rows, None)


def _arithmetic(moved: list[_Moved], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    """Numbers that go through the same line are spoken of together."""
    together: dict[tuple[str, Place | None, str], list[_Moved]] = {}
    for each, row, amount in moved:
        measured = _row(each, outcomes)
        why, cause, remedy = (measured.why, measured.cause, measured.remedy) if measured is not None else ("", None, "")
        about = (why or "the mean of batches is another quantity", cause or each.place, remedy or _EXACT)
        together.setdefault(about, []).append((each, row, amount))
    for (why, place, remedy), group in together.items():
        yield Advice("averaged over batches", f"{why} ({_amounts(group)})", place, remedy, True)


def _one_rank(moved: list[_Moved], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    if moved:
        yield Advice(
            "one rank's samples",
            f"the first rank reports the number of its own samples as the whole's ({_amounts(moved)})",
            moved[0][0].place,
            "add up totals and numbers of samples over the ranks before it is reported",
            True,
        )


def _rank_means(moved: list[_Moved], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    if moved:
        yield Advice(
            "mean of rank means",
            f"the number of each rank counts as much as any other's, whatever its samples ({_amounts(moved)})",
            moved[0][0].place,
            "add up totals and numbers of samples over the ranks, and divide once",
            True,
        )


def _copies(moved: list[_Moved], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    is_seen = any(seen.kind == "duplicates" and not seen.harmless for outcome in outcomes for seen in outcome.run.seen)
    moved = [(each, row, amount) for each, row, amount in moved if each.phase == "training" or not is_seen]
    if moved:
        yield Advice(
            "samples twice",
            f"the sampler repeats samples so that all ranks have as many ({_amounts(moved)})",
            moved[0][0].place,
            "count each sample once: shares may be unequal where nothing waits for the others",
            True,
        )


def _short(moved: list[_Moved], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    if moved:
        yield Advice(
            "short last batch",
            f"the last batch has fewer samples and counts as much as the others ({_amounts(moved)})",
            moved[0][0].place,
            "weight each batch by how many samples it has, and divide by how many there are",
            any(
                is_mistaken(part, row)
                for _, row, _ in moved
                for part in row.parts
                if part.cause is DifferenceCause.SHORT_BATCH
            ),
        )


def _left_out(moved: list[_Moved], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    if moved:
        each, row, _ = moved[0]
        yield Advice(
            "samples left out",
            f"of {row.samples + row.left_out:,} samples the evaluation scores {row.samples:,} {_with(each, row)} "
            f"({_amounts(moved)})",
            moved[0][0].place,
            "build the evaluation's loader with drop_last=False",
            True,
        )


def _sum(numbers: Sequence[ComparedNumber], outcomes: Sequence[RunOutcome]) -> Iterator[Advice]:
    summed = next((outcome for outcome in outcomes if steps_with_sum(outcome)), None)
    if summed is None:
        return
    reading = next(reading for reading in summed.readings if reading.trains_on_sum)
    low, high = outcomes[0].setting.batch_size, outcomes[-1].setting.batch_size
    yield Advice(
        "the loss is a sum",
        f"the loss that is trained on is a sum over the batch: a step with batches of {high} is {times(high / low)} "
        f"as long as one with batches of {low}",
        reading.place,
        "use the mean over the batch, and multiply the learning rate by the batch size that it was found with",
        True,
    )


def _totals(numbers: Sequence[ComparedNumber]) -> Iterator[Advice]:
    for each in numbers:
        if each.is_total and each.verdict == "wrong":
            yield Advice(
                "a total that nothing divides",
                f"{each.name} grows with how many batches there are, whatever the model",
                each.place,
                "weight each batch by how many samples it has, and divide by how many there are",
                True,
            )


def _updates(numbers: Sequence[ComparedNumber]) -> Iterator[Advice]:
    """What the control runs with another learning rate say."""
    for each in numbers:
        row = each.farthest
        rules = [rescaled for rescaled in each.rescaled if rescaled.size == row.size and rescaled.gone is not None]
        part = row.part(DifferenceCause.UPDATES)
        if part is None or not rules or not is_noticed(part, row):
            continue
        best = max(rules, key=lambda rescaled: rescaled.gone.value if rescaled.gone is not None else -1e9)
        helps = best.gone is not None and best.gone.value > 0.5
        first = each.rows[0]
        own, base = (row.steps, first.steps) if row.steps else (row.updates, first.updates)
        has, too = ("an epoch has", "it has") if row.steps else ("there are", "there are")
        yield Advice(
            "fewer updates" if own < base else "more updates",
            f"{_with(each, row)}, {has} {own:,} updates, {_with(each, first)} {too} {base:,}",
            None,
            f"let the learning rate follow the batch size ({best.rule} rule), or compare after as many updates rather "
            "than after as many epochs"
            if helps
            else "compare after as many updates rather than after as many epochs",
        )
        return
