"""A number's verdict: is it normal that it differs, or is something wrong?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from batchproof.scripts.compare.assemble import CLEAR, is_clear
from batchproof.scripts.compare.bill import change, decimals_of, differences, figure, is_plural
from batchproof.scripts.compare.comparison import ComparedNumber, ComparisonRow, Part, Verdict
from batchproof.scripts.compare.record import RunOutcome
from batchproof.scripts.compare.split import OF_RANKS, DifferenceCause, Mean

#: What mistakes may move a number by before they are spoken of, as a share of the number.
NOTICED = 1e-3
#: What share of the difference may be by mistake.
MOSTLY, PARTLY = 0.12, 0.5

#: Real, and shown to be: by a control run, or by what was measured of the run itself.
_SHOWN = (DifferenceCause.TRAINING, DifferenceCause.UPDATES, DifferenceCause.RATE)
#: A real share of the difference that is not worth speaking of.
REAL = 0.02
#: A short last batch that moves a number by a smaller share of it is no mistake, but worth a word.
SMALL = 0.01


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
    """Whether a part is a mistake to speak of: a short last batch moves many a number a little."""
    if not part.is_mistake or not is_noticed(part.mean, row):
        return False
    return part.cause is not DifferenceCause.SHORT_BATCH or abs(part.mean.value) > SMALL * abs(row.reported.value)


def broadcasts(outcome: RunOutcome) -> bool:
    """Whether a loss takes shapes that do not match."""
    return any(not seen.harmless and seen.kind == "broadcast" for seen in outcome.run.seen)


def _verdict(found: ComparedNumber, outcomes: Sequence[RunOutcome]) -> Verdict:
    row = found.farthest
    if row.difference is None or not math.isfinite(row.difference.value):
        return "could not tell"
    if found.is_total and is_clear(row.difference, found.rows[0].reported.value):
        return "wrong"
    if any(map(broadcasts, outcomes)):
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
        one = "at one batch size" if found.by == "batch size" else "on one number of ranks"
        return f"could not tell: {found.name} is reported {one} only"
    decimals = decimals_of(found)
    low, high = figure(first.reported.value, decimals), figure(row.reported.value, decimals)
    many = is_plural(found.name)
    if verdict == "the same" or not math.isfinite(row.difference.value):
        be = f"{found.name} {'are' if many else 'is'}"
        every = "at every batch size" if found.by == "batch size" else "on any number of ranks"
        lead = f"the same {every}" if verdict == "the same" else "could not tell"
        return f"{lead}: {be} {low} {_at(found, first)}, {high} {_at(found, row)}"
    moves = ("rise" if row.difference.value > 0 else "fall") + ("" if many else "s")
    amount, _ = differences(row, first, decimals)
    by = change(abs(amount), decimals).lstrip("+")
    to = f"{row.size:,}" if found.by == "batch size" else found.at(row)
    head = f"{found.name} {moves} by {by} from {found.at(first)} to {to}"
    if found.is_total:
        return f"{head}: it is a total over the batches, and their number changes"
    if verdict == "could not tell":
        return f"could not tell why {head}: it has no exact value to compare with"
    if verdict == "normal" and abs(row.difference.value) <= NOTICED * abs(row.reported.value):
        return f"{found.name} hardly change{'' if many else 's'}: {low} {_at(found, first)}, {high} {_at(found, row)}"
    return f"{head}{_why(row, first, decimals)}"


def _at(found: ComparedNumber, row: ComparisonRow) -> str:
    return f"at {row.size:,}" if found.by == "batch size" else f"on {found.at(row)}"


def _why(row: ComparisonRow, first: ComparisonRow, decimals: int) -> str:
    """What the parts say; real is only what a control run, or the same number of updates, has shown to be."""
    assert row.difference is not None
    mistaken = [part for part in row.parts if is_mistaken(part, row)]
    is_told = row.part(DifferenceCause.UPDATES) is not None
    if not mistaken:
        return _real(row, first) if is_told else f"; it is no averaging bug; why is not known{_updates(row, first)}"
    mistakes, total = by_mistake(row), row.difference.value
    real = 1 - mistakes / total if total else 0.0
    averaging = {part.cause for part in mistaken} <= {DifferenceCause.ARITHMETIC, DifferenceCause.SHORT_BATCH}
    bug = "averaging bug" if averaging else "evaluation bug"
    if real <= REAL:
        return f", none of it real: {_mistaken(row)}"
    is_real = "real" if is_told and not _unexplained(row) else "not explained"
    if real > 1:
        more = f"an {bug} hides {figure(abs(mistakes), decimals)} more"
        return f", all of it real; {more}" if is_real == "real" else f"; {more}; why is not known{_updates(row, first)}"
    other, is_bug = _shares(real)
    return f": {other} {is_real}, {is_bug} {bug}"


def _real(row: ComparisonRow, first: ComparisonRow) -> str:
    """No mistake, and the number of updates was held."""
    assert row.difference is not None
    total = row.difference.value
    short = row.part(DifferenceCause.SHORT_BATCH)
    if short is not None and short.value / total > PARTLY:
        share = abs(short.value / row.reported.value) if row.reported.value else 0.0
        return f", mostly a short last batch, which is no mistake at {share:.1%} of it"
    if not _unexplained(row):
        return f", all of it real{_above_all(row, first)}"
    known = math.fsum(part.mean.value for part in row.parts if part.cause in _SHOWN) / total
    if not REAL < known < 1 - REAL:
        is_of_ranks = any(part.cause in OF_RANKS for part in row.parts)
        noise = "statistics or dropout of each rank's own batches" if is_of_ranks else "gradient noise"
        return f", most of it not explained: {noise}, or whatever else differs"
    real, rest = _shares(known)
    return f": {real} real, {rest} not explained{_above_all(row, first)}"


def _unexplained(row: ComparisonRow) -> bool:
    """Whether more is left than noise and a small share of the difference."""
    rest = row.part(DifferenceCause.REST)
    if rest is None or row.difference is None:
        return False
    return abs(rest.value) > max(MOSTLY * abs(row.difference.value), CLEAR * (rest.standard_error or 0.0))


def _updates(row: ComparisonRow, first: ComparisonRow) -> str:
    """What is known to differ."""
    return f" ({row.updates:,} updates instead of {first.updates:,})" if row.updates != first.updates else ""


def _shares(real: float) -> tuple[str, str]:
    """What is real and what is not, in percent: together 100, and neither is 0."""
    decimals = next(places for places in range(6) if places == 5 or 0 < round(100 * real, places) < 100)
    written = round(100 * real, decimals)
    return f"{written:.{decimals}f}%", f"{100 - written:.{decimals}f}%"


def _mistaken(row: ComparisonRow) -> str:
    worst = max((part for part in row.parts if part.is_mistake), key=lambda part: abs(part.mean.value))
    return {
        DifferenceCause.ONE_RANK: "the first rank reports its own samples as the whole",
        DifferenceCause.RANK_MEANS: "the means of the ranks are averaged, whatever their samples",
        DifferenceCause.COPIES: "the sampler gives samples twice",
        DifferenceCause.SHORT_BATCH: "a short last batch counts as much as a full one",
        DifferenceCause.ARITHMETIC: "it comes from averaging over batches",
        DifferenceCause.LEFT_OUT: "samples are left out",
        DifferenceCause.STATISTICS: "the model uses statistics of the batch in evaluation",
    }[worst.cause]


def _above_all(row: ComparisonRow, first: ComparisonRow) -> str:
    """The real cause that moves it most, the way that it moves."""
    assert row.difference is not None
    sign = math.copysign(1.0, row.difference.value)
    real = [part for part in row.parts if part.cause in _SHOWN]
    main = max(real, key=lambda part: sign * part.mean.value, default=None)
    if main is None or sign * main.mean.value <= 0:
        return ""
    if main.cause is DifferenceCause.UPDATES:
        own, base = (row.steps, first.steps) if row.steps and first.steps else (row.updates, first.updates)
        kind = "fewer" if own < base else "more"
        epoch = " in an epoch" if row.steps and first.steps else ""
        return f", mostly {kind} updates{epoch} ({own:,} instead of {base:,})"
    if main.cause is DifferenceCause.RATE:
        return ", mostly steps of another length"
    return ", mostly because it is measured while the model still learns"
