"""A number's verdict: is it normal that it differs, or is something wrong?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from batchproof.compare.comparison import Number, Row, Verdict
from batchproof.compare.record import Outcome
from batchproof.compare.say import decimals_of, figure
from batchproof.compare.split import Cause
from batchproof.compare.tabulate import is_clear

#: What mistakes may move a number by before they are spoken of, as a share of the number.
NOTICED = 1e-3
#: What share of the difference may be by mistake.
MOSTLY, PARTLY = 0.12, 0.5

_LEAD: dict[Verdict, str] = {
    "the same": "the same at every batch size",
    "normal": "normal",
    "mostly normal": "normal, for the most part",
    "partly wrong": "partly normal, partly wrong",
    "wrong": "something is wrong",
    "could not tell": "could not tell",
}


def judged(found: Number, outcomes: Sequence[Outcome]) -> Number:
    """With its verdict and its headline.

    Args:
        found: the number.
        outcomes: the plain runs: what they saw may be wrong whatever the difference is made of.
    """
    verdict = _verdict(found, outcomes)
    return replace(found, verdict=verdict, headline=_headline(found, verdict))


def by_mistake(row: Row) -> float:
    """How much of a difference there would not be if every batch were scored rightly."""
    return math.fsum(part.mean.value for part in row.parts if part.is_mistake)


def is_noticed(amount: float, row: Row) -> bool:
    """Whether an amount is more than rounding beside the number."""
    return abs(amount) > NOTICED * abs(row.reported.value)


def _verdict(found: Number, outcomes: Sequence[Outcome]) -> Verdict:
    row = found.farthest
    if row.difference is None or not math.isfinite(row.difference.value):
        return "could not tell"
    if any(not seen.harmless and seen.kind == "broadcast" for outcome in outcomes for seen in outcome.seen):
        return "wrong"
    mistakes = [part.mean.value for part in row.parts if part.is_mistake]
    noticed = any(is_noticed(amount, row) for amount in mistakes)
    if not is_clear(row.difference, found.rows[0].reported.value) and not noticed:
        return "the same"
    if not noticed:
        return "normal"
    share = abs(by_mistake(row) / row.difference.value) if row.difference.value else math.inf
    return "mostly normal" if share <= MOSTLY else "partly wrong" if share <= PARTLY else "wrong"


def _headline(found: Number, verdict: Verdict) -> str:
    row, first = found.farthest, found.rows[0]
    if row.difference is None:
        return f"could not tell: {found.name} is reported at one batch size only"
    decimals = decimals_of(found)
    low, high = figure(first.reported.value, decimals), figure(row.reported.value, decimals)
    if verdict == "could not tell":
        return (
            f"could not tell: {found.name} is {low} with batches of {first.size} and {high} with batches of {row.size}"
        )
    if verdict == "the same":
        return f"the same at every batch size: {found.name} is {low} with batches of {first.size}, {high} of {row.size}"
    moves = "rises" if row.difference.value > 0 else "falls"
    head = f"{_LEAD[verdict]}: {found.name} {moves} from {low} to {high} between batches of {first.size} and {row.size}"
    return f"{head}{_why(row, first, decimals)}"


def _why(row: Row, first: Row, decimals: int) -> str:
    assert row.difference is not None
    mistakes = by_mistake(row)
    total = row.difference.value
    real = 1 - mistakes / total
    adds = "adds" if mistakes > 0 else "takes away"
    wrongly = ""
    if is_noticed(mistakes, row):
        wrongly = f"; how batches are scored and averaged {adds} {figure(abs(mistakes), decimals)}"
    if real <= 0.02:
        return f", and none of that is real{_mistaken(row)}"
    share = f"{real:.0%} of that is real" if wrongly else "that is real"
    return f", and {share}{_above_all(row, first)}{wrongly}"


def _mistaken(row: Row) -> str:
    worst = max((part for part in row.parts if part.is_mistake), key=lambda part: abs(part.mean.value))
    return {
        Cause.SHORT_BATCH: ": a short last batch counts as much as a full one",
        Cause.ARITHMETIC: ": it is how the batches' values are averaged",
        Cause.LEFT_OUT: ": samples are left out",
        Cause.STATISTICS: ": the model uses statistics of the batch in evaluation",
    }[worst.cause]


def _above_all(row: Row, first: Row) -> str:
    """The real cause that moves it most, the way that it moves."""
    assert row.difference is not None
    sign = math.copysign(1.0, row.difference.value)
    real = [part for part in row.parts if not part.is_mistake]
    main = max(real, key=lambda part: sign * part.mean.value, default=None)
    if main is None or sign * main.mean.value <= 0:
        return ""
    if main.cause is Cause.UPDATES:
        kind = "fewer" if row.steps < first.steps else "more"
        return f", above all {kind} updates in an epoch ({row.steps:,}, not {first.steps:,})"
    if main.cause is Cause.RATE:
        return ", above all steps of another length"
    if main.cause is Cause.TRAINING:
        return ", above all that it is measured while the weights still change"
    return ", above all what no control run accounts for"
