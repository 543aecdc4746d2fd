"""A number's verdict: is it normal that it differs, or is something wrong?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from batchproof.scripts.compare.assemble import CLEAR, is_clear
from batchproof.scripts.compare.bill import decimals_of, figure, is_plural
from batchproof.scripts.compare.comparison import ComparedNumber, ComparisonRow, Part, Verdict
from batchproof.scripts.compare.record import RunOutcome
from batchproof.scripts.compare.split import DifferenceCause, Mean

#: What mistakes may move a number by before they are spoken of, as a share of the number.
NOTICED = 1e-3
#: What share of the difference may be by mistake.
MOSTLY, PARTLY = 0.12, 0.5

#: A real share of the difference that is not worth speaking of.
REAL = 0.02
#: A short last batch that moves a number by a smaller share of it is no mistake, but worth a word.
SMALL = 0.01

_LEAD: dict[Verdict, str] = {
    "the same": "the same at every batch size",
    "normal": "normal",
    "mostly normal": "normal, for the most part",
    "partly wrong": "partly normal, partly wrong",
    "wrong": "something is wrong",
    "could not tell": "could not tell",
}


def with_verdict(found: ComparedNumber, outcomes: Sequence[RunOutcome]) -> ComparedNumber:
    """With its verdict and its headline.

    Args:
        found: the number.
        outcomes: the plain runs: what they saw may be wrong whatever the difference is made of.
    """
    verdict = _verdict(found, outcomes)
    return replace(found, verdict=verdict, headline=_headline(found, verdict))


def by_mistake(row: ComparisonRow) -> float:
    """How much of a difference there would not be if every batch were scored rightly."""
    return math.fsum(part.mean.value for part in row.parts if part.is_mistake)


def is_noticed(amount: Mean, row: ComparisonRow) -> bool:
    """Whether an amount is more than noise, and more than a trifle beside the number."""
    return abs(amount.value) > max(NOTICED * abs(row.reported.value), CLEAR * (amount.standard_error or 0.0))


def is_mistaken(part: Part, row: ComparisonRow) -> bool:
    """Whether a part is a mistake to speak of: a short last batch is one where it is most of what there is."""
    if not part.is_mistake or not is_noticed(part.mean, row):
        return False
    if part.cause is not DifferenceCause.SHORT_BATCH:
        return True
    amount = abs(part.mean.value)
    most = row.difference is not None and amount > PARTLY * abs(row.difference.value)
    return most or amount > SMALL * abs(row.reported.value)


def _verdict(found: ComparedNumber, outcomes: Sequence[RunOutcome]) -> Verdict:
    row = found.farthest
    if row.difference is None or not math.isfinite(row.difference.value):
        return "could not tell"
    if found.is_total and is_clear(row.difference, found.rows[0].reported.value):
        return "wrong"
    if any(not seen.harmless and seen.kind == "broadcast" for outcome in outcomes for seen in outcome.run.seen):
        return "wrong"
    mistaken = any(is_mistaken(part, row) for part in row.parts)
    if not is_clear(row.difference, found.rows[0].reported.value) and not mistaken:
        return "the same"
    if not mistaken:
        return "normal" if found.rows[0].exact is not None and row.exact is not None else "could not tell"
    share = abs(by_mistake(row) / row.difference.value) if row.difference.value else math.inf
    return "mostly normal" if share <= MOSTLY else "partly wrong" if share <= PARTLY else "wrong"


def _headline(found: ComparedNumber, verdict: Verdict) -> str:
    row, first = found.farthest, found.rows[0]
    if row.difference is None:
        return f"could not tell: {found.name} is reported at one batch size only"
    decimals = decimals_of(found)
    low, high = figure(first.reported.value, decimals), figure(row.reported.value, decimals)
    many = is_plural(found.name)
    if verdict == "the same" or not math.isfinite(row.difference.value):
        be = f"{found.name} {'are' if many else 'is'}"
        return f"{_LEAD[verdict]}: {be} {low} with batches of {first.size}, {high} of {row.size}"
    moves = ("rise" if row.difference.value > 0 else "fall") + ("" if many else "s")
    head = f"{_LEAD[verdict]}: {found.name} {moves} from {low} to {high} between batches of {first.size} and {row.size}"
    if found.is_total:
        return f"{head}, and it is a total over the batches, of which there are not as many"
    if verdict == "could not tell":
        return f"{head}, and no exact value was there to tell what is real of that"
    return f"{head}{_why(row, first, decimals)}"


def _why(row: ComparisonRow, first: ComparisonRow, decimals: int) -> str:
    assert row.difference is not None
    mistakes, total = by_mistake(row), row.difference.value
    noticed = [part.cause for part in row.parts if part.is_mistake and is_noticed(part.mean, row)]
    if not noticed:
        return f", and that is real{_above_all(row, first)}"
    real = 1 - mistakes / total
    if real <= REAL:
        return f", and none of that is real{_mistaken(row)}"
    what = "how batches are scored"
    if set(noticed) <= {DifferenceCause.ARITHMETIC, DifferenceCause.SHORT_BATCH}:
        parts = {part.cause: figure(abs(part.mean.value), decimals) for part in row.parts}
        with_short = parts.get(DifferenceCause.SHORT_BATCH, figure(0, decimals)) != figure(0, decimals)
        what = "averaging over batches" + (", the short last one included," if with_short else "")
    amount = figure(abs(mistakes), decimals)
    if real > 1:
        return f", and all of that is real{_above_all(row, first)}; {what} hides {amount} more"
    return f", and {real:.0%} of that is real{_above_all(row, first)}; {what} makes up {amount}"


def _mistaken(row: ComparisonRow) -> str:
    worst = max((part for part in row.parts if part.is_mistake), key=lambda part: abs(part.mean.value))
    return {
        DifferenceCause.SHORT_BATCH: ": a short last batch counts as much as a full one",
        DifferenceCause.ARITHMETIC: ": it is how the batches' values are averaged",
        DifferenceCause.LEFT_OUT: ": samples are left out",
        DifferenceCause.STATISTICS: ": the model uses statistics of the batch in evaluation",
    }[worst.cause]


def _above_all(row: ComparisonRow, first: ComparisonRow) -> str:
    """The real cause that moves it most, the way that it moves."""
    assert row.difference is not None
    sign = math.copysign(1.0, row.difference.value)
    real = [part for part in row.parts if not part.is_mistake]
    main = max(real, key=lambda part: sign * part.mean.value, default=None)
    if main is None or sign * main.mean.value <= 0:
        return ""
    if main.cause is DifferenceCause.UPDATES:
        counted = (row.steps, first.steps) if row.steps and first.steps else (row.updates, first.updates)
        kind = "fewer" if counted[0] < counted[1] else "more"
        epoch = " in an epoch" if row.steps and first.steps else ""
        return f", above all {kind} updates{epoch} ({counted[0]:,}, not {counted[1]:,})"
    if main.cause is DifferenceCause.RATE:
        return ", above all steps of another length"
    if main.cause is DifferenceCause.TRAINING:
        return ", above all that it is measured while the weights still change"
    return ", above all the rest: the gradients of larger batches are less noisy, or another path was taken"
