"""What a report shows of a model's trials: a table, a heat strip over its modules, and rounding in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.report.document import Column, Group, HeatRow, HeatStrip, Sheet, Tone
from batchproof.report.numbers import decimals_for, number

if TYPE_CHECKING:
    from batchproof.explanation.result import RowTrial

#: What a row says of a trial, and how it stands out.
STATES: dict[str, tuple[str, Tone]] = {
    "same": ("same bits", "expected"),
    "rounding": ("rounding", "expected"),
    "convention": ("convention", "notable"),
    "fault": ("fault", "wrong"),
    "untried": ("not tried", "faint"),
}
#: What is changed in a trial, in a word or two, by how its name begins; the first names are the plainest.
CHANGES = {
    "padding": "padding",
    "fixed": "padding",
    "alone": "the batch",
    "neighbours": "the batch",
    "size": "the batch",
    "order": "the order",
    "packing": "packing",
    "repeat": "each call",
}
#: Gaps of a module: below the first they are nothing, above the second an answer is another one.
LEAST_GAP, MOST_GAP = 1e-9, 1.0
UNITS = "std: standard deviations of the output"
ULPS = "ulp: unit in the last place"


def is_worth_a_table(trials: Iterable[RowTrial]) -> bool:
    """Whether anything moved: where nothing did, a sentence says it."""
    return any(trial.gap for trial in trials)


def trials_sheet(trials: Sequence[RowTrial], label: str) -> Sheet:
    """A row for each trial: what was changed, whether that matters, by how much, and where it begins."""
    return _sheet(trials, _columns(trials), label)


def all_figures(trials: Sequence[RowTrial], label: str) -> Sheet:
    """A row for each trial that ran, with what the judgement rests on: both precisions, and the line."""
    tried = [trial for trial in trials if trial.gap is not None]
    columns = (
        _state(tried),
        Column("std", tuple(_plain(trial.gap) for trial in tried)),
        Column("in float64", tuple(_plain(trial.double_gap) for trial in tried)),
        Column("ulps", tuple(_ulps(trial) for trial in tried)),
        Column("answers", tuple(f"{trial.answers:,}" if trial.answers else "" for trial in tried)),
        Column("begins at", tuple(_where(trial) for trial in tried), is_left=True, is_path=True),
    )
    return replace(_sheet(tried, columns, label), notes=())


def _sheet(trials: Sequence[RowTrial], columns: tuple[Column, ...], label: str) -> Sheet:
    names, notes = tuple(trial.title for trial in trials), tuple(map(_note, trials))
    return Sheet(names, (Group("", columns),), label=label, in_words=True, is_stacked=True, notes=notes).filled


def _columns(trials: Sequence[RowTrial]) -> tuple[Column, ...]:
    moved = Column("moves by", tuple(map(gap_of, trials)), tones=tuple(STATES[trial.state][1] for trial in trials))
    flipped = tuple(f"{trial.flips:,} of {trial.answers:,}" if trial.flips else "" for trial in trials)
    begins = tuple(module_of(trial) if trial.gap else "" for trial in trials)
    return (
        _state(trials),
        moved,
        Column("flipped", flipped, tones=tuple(STATES[trial.state][1] for trial in trials)),
        Column("begins in", begins, is_left=True, is_path=True),
    )


def _state(trials: Sequence[RowTrial]) -> Column:
    words, tones = zip(*(STATES[trial.state] for trial in trials), strict=True)
    return Column("output", words, tones=tones, is_left=True)


def gap_of(trial: RowTrial) -> str:
    """How far the output moves: rounding in units in the last place, all else in standard deviations."""
    if not trial.gap or trial.name == "greedy tokens":  # of tokens it is said how many differ
        return ""
    if trial.state == "rounding" and trial.ulps is not None:
        return f"{_counted(trial.ulps)} {'ulp' if _counted(trial.ulps) == '1' else 'ulps'}"
    return f"{_plain(trial.gap)} std"


def module_of(trial: RowTrial) -> str:
    """Where the difference begins: a module's name, and the class of the model where that is no part of it."""
    return trial.module or trial.kind


def _note(trial: RowTrial) -> str:
    return f"→ {trial.note}" if trial.note and trial.state == "convention" else trial.note


def _ulps(trial: RowTrial) -> str:
    return _counted(trial.ulps) if trial.ulps else ""


def _where(trial: RowTrial) -> str:
    return str(trial.place) if trial.place is not None and trial.gap else ""


def _plain(gap: float | None) -> str:
    """Two digits; powers of ten below a thousandth."""
    if gap is None:
        return ""
    if gap == 0:
        return "0"
    return f"{gap:.0e}" if gap < 1e-3 else number(gap, decimals_for([gap], 2))


def _counted(ulps: float) -> str:
    return f"{ulps:.1g}" if ulps < 1 else f"{ulps:.0f}" if ulps < 1e4 else f"{ulps:.0e}"


# ------------------------------------------------------------------ rounding in words


def rounding_in_words(trials: Sequence[RowTrial], one_ulp: float | None) -> str:
    """What a person would say of the last bits; empty where they do not differ.

    ``the last bits differ with padding and the batch (2 ulps; moving the inputs by one ulp moves the outputs by 4):
    rounding, no answer changed; they first differ in encoder.q (Linear)``
    """
    rounded = [trial for trial in trials if trial.state == "rounding"]
    if not rounded:
        return ""
    worst = max(rounded, key=lambda trial: trial.ulps or 0.0)
    changes = _joined([word for word in dict.fromkeys(CHANGES.values()) if word in set(map(_change_of, rounded))])
    size = "less than 1 ulp" if (worst.ulps or 0.0) < 1 else gap_of(worst)
    text = f"the last bits differ with {changes or worst.title} ({size}{_beside(worst, one_ulp)}): {_harm(rounded)}"
    begins = next((trial for trial in rounded if module_of(trial)), None)
    if begins is None:
        return text
    where = f"{begins.module} ({begins.kind})" if begins.module else f"{begins.kind} itself"
    return f"{text}; they first differ in {where}"


def _change_of(trial: RowTrial) -> str:
    return CHANGES.get(trial.name.split()[0], trial.title)


def _beside(worst: RowTrial, one_ulp: float | None) -> str:
    """What rounding must make, whoever computes it: the tolerance is measured, not chosen."""
    if one_ulp is None or not worst.gap or not worst.ulps or not math.isfinite(one_ulp):
        return ""
    return f"; moving the inputs by one ulp moves the outputs by {_counted(one_ulp * worst.ulps / worst.gap)}"


def _harm(rounded: Sequence[RowTrial]) -> str:
    most = max(rounded, key=lambda trial: trial.flips)
    if most.flips:
        return f"rounding, and it changes {most.flips:,} of {most.answers:,} answers, which are all but ties"
    return "rounding, no answer changed" if any(trial.answers for trial in rounded) else "rounding"


def nothing_moved(trials: Sequence[RowTrial]) -> Iterator[str]:
    """What is said in place of a table."""
    same = [trial.title for trial in trials if trial.state == "same"]
    if same:
        yield f"the same bits {_joined(same)}"
    untried = [f"{trial.title} ({trial.note})" for trial in trials if trial.state == "untried"]
    if untried:
        yield f"not tried: {'; '.join(untried)}"


def conventions(trials: Sequence[RowTrial]) -> str:
    """What the caller has to do so that the verdict holds; empty where nothing."""
    asked = [f"{trial.title}: {trial.note} (or it moves by {gap_of(trial)})" for trial in trials if _is_asked(trial)]
    return "; ".join(asked)


def _is_asked(trial: RowTrial) -> bool:
    # in eval mode nobody has left train() on
    return trial.state == "convention" and bool(trial.note) and trial.name != "training"


def units(trials: Sequence[RowTrial]) -> str:
    """What the figures of the table are counted in."""
    moved = [gap_of(trial) for trial in trials]
    words = ((UNITS, any(text.endswith("std") for text in moved)), (ULPS, any("ulp" in text for text in moved)))
    return ", ".join(word for word, is_used in words if is_used)


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


# ------------------------------------------------------------------ where, module by module


def heat_strip(trials: Sequence[RowTrial]) -> HeatStrip | None:
    """The gap of each module, for each trial that moves an output; None where no module could be told."""
    moved = [trial for trial in trials if trial.gap and len(trial.modules) > 1]
    names = _in_order([[gap.module for gap in trial.modules] for trial in moved])
    if len(names) < 2:
        return None
    kinds = {gap.module: gap.kind for trial in moved for gap in trial.modules}
    rows = []
    for trial in moved:
        sizes = {gap.module: gap.size for gap in trial.modules}
        rows.append(HeatRow(trial.title, STATES[trial.state][1], tuple(sizes.get(name) for name in names)))
    return HeatStrip(
        title="how far each module's output moves, in the order in which they run",
        unit="standard deviation",
        columns=tuple(names),
        kinds=tuple(kinds[name] for name in names),
        rows=tuple(rows),
        least=LEAST_GAP,
        most=MOST_GAP,
    )


def _in_order(runs: Sequence[Sequence[str]]) -> list[str]:
    """The names of all runs, each after those that it comes after in its own."""
    found: list[str] = []
    for names in sorted(runs, key=len, reverse=True):
        at = 0
        for name in names:
            if name in found:
                at = found.index(name) + 1
            else:
                found.insert(at, name)
                at += 1
    return found
