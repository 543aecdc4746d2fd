"""Scores as a document: each number beside what averaging would have said, and the groups with the extreme values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.ground.text import counted, listed, sentence
from batchproof.report.document import Aside, Brief, Column, Document, Group, Sheet
from batchproof.report.numbers import aligned, decimals_for, error_bar, known_to, number, percent, share

if TYPE_CHECKING:
    from batchproof.scoring.result import GroupScore, Number, Scores

#: Groups that are shown at each end.
EXTREMES = 5
#: From so many rows on somebody asks how fast it was.
MANY_ROWS = 1_000_000
#: A difference below this part of the standard error is nobody's concern.
NOTHING = 0.02
#: Numbers that a headline has room for.
TOLD = 3
DIGITS = 6


def document(scores: Scores) -> Document:
    """What is shown of scores."""
    table = _numbers(scores)
    return Document(
        title=scores.data,
        place=scores.numbers[0].place if len(scores.numbers) == 1 else None,
        state=True if scores.exit_status == 0 and not scores.interrupted else None,
        headline=_headline(scores),
        yours=_averaging(scores),
        sheet=_all_digits(scores),
        asides=tuple(_asides(scores)),
        brief=Brief(
            tables=tuple(sheet for sheet in (table, *_groups(scores)) if sheet is not None),
            remarks=tuple(map(sentence, scores.notes)),
            closing=_closing(scores),
            more="all digits, the columns that were read",
        ),
    )


def _headline(scores: Scores) -> str:
    told = [f"{one.name} is {_written(one.value, one.standard_error)}" for one in scores.numbers[:TOLD]]
    more = len(scores.numbers) - len(told)
    words = listed(told) + (f", with {counted(more, 'more number')}," if more else "")
    mean = ", the mean over samples," if scores.over == "samples" else ""
    where = f"the {scores.rows:,} rows read so far" if scores.interrupted else counted(scores.rows, "row")
    return f"{words}{mean} on {where}"


def _written(value: float, error: float) -> str:
    return f"{_value(value, error)}{error_bar(value, error, DIGITS)}"


def _value(value: float, error: float) -> str:
    """To the second digit of its error; without one, to as many as anybody reads."""
    if math.isfinite(error) and error > 0:
        return known_to(value, error, DIGITS)
    return number(value, decimals_for([value], DIGITS))


def _averaging(scores: Scores) -> str:
    """What an average over parts would have said, of the number for which that is off the most."""
    told = [(one, one.averaged) for one in scores.numbers if one.averaged is not None]
    off = [(one, averaged) for one, averaged in told if math.isfinite(averaged.off)]
    if not off:
        return ""
    one, averaged = max(off, key=lambda pair: abs(pair[1].off))
    parts = f"the {averaged.parts:,} {averaged.what}"
    if not abs(averaged.off) >= 5e-6 or abs(averaged.mean - one.value) < NOTHING * one.standard_error:
        return f"Averaging {parts} would have said the same here: what it is off by is far below the error bar."
    way = "low" if averaged.mean < one.value else "high"
    said = _value(averaged.mean, one.standard_error)
    name = f" for {one.name}" if len(scores.numbers) > 1 else ""
    return f"Averaging {parts} would have said {said}{name}: {share(abs(averaged.off))} too {way}."


def _numbers(scores: Scores) -> Sheet | None:
    """A row for each number; the headline says it where there is one."""
    if len(scores.numbers) < 2:
        return None
    every = scores.numbers
    columns = [
        Column("all rows", tuple(aligned([_written(one.value, one.standard_error) for one in every])), "expected")
    ]
    told = [one.averaged for one in every]
    if any(told):
        what = next(averaged for averaged in told if averaged is not None)
        means = [_mean(one) for one in every]
        offs = [percent(averaged.off) if averaged is not None else "" for averaged in told]
        columns += [
            Column(f"averaged over {what.parts:,} {what.what}", tuple(aligned(means)), "notable"),
            Column("off", tuple(aligned(offs)), "answer"),
        ]
    return Sheet(
        tuple(one.name for one in every), (Group("", tuple(columns)),), label="", in_words=True, is_stacked=True
    )


def _all_digits(scores: Scores) -> Sheet:
    """Each number with more digits than its error bar leaves: to compare with another program's."""
    every = scores.numbers
    columns = [
        Column("value", tuple(f"{one.value:.12g}" for one in every), "expected"),
        Column("standard error", tuple(f"{one.standard_error:.3g}" for one in every)),
    ]
    told = [one.averaged for one in every]
    if any(told):
        columns.append(Column("averaged", tuple("" if one is None else f"{one.mean:.12g}" for one in told), "notable"))
    return Sheet(tuple(one.name for one in every), (Group("", tuple(columns)),), label="", in_words=True)


def _mean(one: Number) -> str:
    return "" if one.averaged is None else _value(one.averaged.mean, one.standard_error)


def _groups(scores: Scores) -> Iterator[Sheet]:
    """The groups with the largest and the smallest values of the first number; all of them where they are few."""
    known = [group for group in scores.groups if math.isfinite(group.values[0])]
    ranked = sorted(known, key=lambda group: group.values[0], reverse=True)
    if not scores.groups:
        return
    name, total = scores.numbers[0].name, counted(len(scores.groups), "group")
    by = ", ".join(scores.by)
    if len(scores.groups) <= 2 * EXTREMES + 1:
        yield _table(scores, [*ranked, *(group for group in scores.groups if group not in known)], f"By {by}: {total}")
        return
    yield _table(scores, ranked[:EXTREMES], f"By {by}: {total}, those with the largest {name}")
    yield _table(scores, ranked[-EXTREMES:], f"and the smallest {name}")


def _table(scores: Scores, groups: Sequence[GroupScore], title: str) -> Sheet:
    columns = [Column("rows", tuple(aligned([f"{group.rows:,}" for group in groups])), "faint")]
    for place, one in enumerate(scores.numbers):
        cells = [_written(group.values[place], group.standard_errors[place]) for group in groups]
        columns.append(Column(one.name, tuple(aligned(cells)), "expected" if place == 0 else "plain"))
    names = tuple(", ".join(_key(part) for part in group.key) for group in groups)
    return Sheet(names, (Group(title, tuple(columns)),), label=", ".join(scores.by), in_words=True, is_stacked=True)


def _key(part: object) -> str:
    return "null" if part is None else str(part)


def _asides(scores: Scores) -> Iterator[Aside]:
    if scores.interrupted:
        yield Aside("partial", "Interrupted: these are the values of the rows that were read by then.", is_warning=True)
    if scores.not_a_number:
        rows = counted(scores.not_a_number, "row")
        yield Aside("NaN", f"{rows} of {scores.rows:,} hold NaN, and were given to the function.", is_warning=True)
    for said in scores.raised:
        yield Aside("raised", sentence(said), is_warning=True)
    if scores.dropped:
        yield Aside("dropped", f"{counted(scores.dropped, 'row')} with a null left out.", is_warning=True)
    yield Aside("from", "; ".join(scores.columns), "columns")
    for one in scores.numbers:
        if one.kept:
            yield Aside("kept", f"{one.function} keeps its samples: {one.kept}")


def _closing(scores: Scores) -> str:
    """How fast and by what, where anybody waited; whose samples were kept."""
    told = []
    if scores.rows >= MANY_ROWS and scores.seconds:
        told = [
            f"{scores.seconds:.1f} s, {scores.rows / scores.seconds / 1e6:.1f} million rows per second",
            scores.engine,
        ]
    kept = {one.function for one in scores.numbers if one.kept}
    if kept:
        told.append(f"samples of {listed(sorted(kept))} kept")
    return ", ".join(filter(None, told))
