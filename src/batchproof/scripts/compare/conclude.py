"""From runs to a Comparison: what could not be compared is an error or a failure, the rest gets its words."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.scripts.compare import plan
from batchproof.scripts.compare.advice import advice
from batchproof.scripts.compare.assemble import numbers
from batchproof.scripts.compare.blank import BLANK
from batchproof.scripts.compare.check import check, totals
from batchproof.scripts.compare.comparison import ComparedNumber, Comparison, Failure
from batchproof.scripts.compare.plan import Question
from batchproof.scripts.compare.record import RunOutcome, Setting
from batchproof.scripts.compare.scheduler import REFUSED, CompletedRuns, ScriptCommand
from batchproof.scripts.compare.split import DifferenceCause
from batchproof.scripts.compare.verdict import broadcasts, is_mistaken, with_verdict
from batchproof.scripts.lint import fix_commands


def conclude(
    script: ScriptCommand, question: Question, runs: CompletedRuns, epoch: int | None, seconds: float
) -> Comparison:
    """What the runs say.

    Args:
        script: what was run.
        question: what was to be compared.
        runs: that came to pass.
        epoch: the pass that was asked for; None for the last.
        seconds: that it took.

    Raises:
        BatchproofError: nothing was reported that could be compared.
    """
    done = runs.done
    base = plan.base_of(question, done)
    plain = [outcome for cut in question.cuts if (outcome := done.get(cut)) is not None]
    works = [outcome for outcome in plain if not outcome.failed]
    if works:
        check(script, works[0], epoch)
    elif plain and all(outcome.failed.startswith(REFUSED) for outcome in plain):
        raise BatchproofError(plain[0].failed.removeprefix(REFUSED))
    found = [
        with_verdict(_looked_up(number, script), works) for number in numbers(question, done, script.report, epoch)
    ]
    seeds = max((row.seeds for number in found for row in number.rows), default=0)
    compared = Comparison(
        target=_title(script),
        sizes=tuple(cut.column for cut in question.cuts),
        seeds=seeds,
        numbers=tuple(sorted(found, key=_order)),
        headline="",
        advice=tuple(advice(found, works)),
        failures=tuple(_failures(runs, question)),
        notes=tuple(_notes(script, question, runs, base, found, seeds)),
        runs=len(done),
        cached=sum(outcome.cached for outcome in done.values()),
        interrupted=runs.interrupted,
        seconds=seconds,
        by=question.by,
    )
    return replace(compared, headline=_headline(compared, plain), fix=_fix(compared))


def _looked_up(number: ComparedNumber, script: ScriptCommand) -> ComparedNumber:
    """A number that was asked for by name, with what the source tells of it: a total has no parts of any sense."""
    if number.phase != "unknown" or script.as_module or any(row.batches for row in number.rows):
        return number
    place = totals(Path(script.target)).get(number.name)
    if place is None:
        return number
    rows = tuple(replace(row, parts=(), controlled=None) for row in number.rows)
    return replace(number, place=place, rows=rows, rescaled=(), is_total=True)


def _title(script: ScriptCommand) -> str:
    named = ["-m", script.target] if script.as_module else [script.target]
    return " ".join(part if part.count(BLANK) else shlex.quote(part) for part in (*named, *script.arguments))


def _order(number: ComparedNumber) -> tuple[bool, bool]:
    """What is trained on comes first, as in the script; a number that cannot be compared comes last."""
    return len(number.rows) < 2, number.phase != "training"


def _headline(compared: Comparison, plain: list[RunOutcome]) -> str:
    """The answer, in accord with the exit status: a mistake that no part shows is said first."""
    main = compared.main
    one, many = (
        ("batch size", "batch sizes") if compared.by == "batch size" else ("number of ranks", "numbers of ranks")
    )
    if main is not None and len(main.rows) > 1:
        mistakes = [advice for advice in compared.advice if advice.is_mistake]
        told = main.is_total or any(is_mistaken(part, main.farthest) for part in main.farthest.parts)
        # a loss of shapes that do not match trains another model: what its numbers are made of comes second
        if mistakes and (not told or any(broadcasts(outcome) for outcome in plain)):
            return f"something is wrong: {mistakes[0].title}; {main.headline}"
        return main.headline
    if plain and all(outcome.failed for outcome in plain):
        return f"could not tell: the script fails at every {one}: {plain[0].failed}"
    if compared.interrupted:
        return f"could not tell: interrupted before two {many} were run"
    return f"could not tell: only one {one} reports a number"


def _fix(compared: Comparison) -> tuple[str, ...]:
    """The commands that repair how batches are averaged; a number that moves for real needs none."""
    averaged = (DifferenceCause.ARITHMETIC, DifferenceCause.SHORT_BATCH)
    wrong = (
        number.place
        for number in compared.numbers
        if number.place is not None
        and any(is_mistaken(part, row) for row in number.rows for part in row.parts if part.cause in averaged)
    )
    return fix_commands(wrong)


def _failures(runs: CompletedRuns, question: Question) -> Iterator[Failure]:
    """Each error of a batch size once, however many seeds and control runs end with it."""
    seen = set()
    for setting, outcome in runs.done.items():
        kind = replace(setting, seed=0, again=False)
        if outcome.failed and setting.plain in question.cuts and (kind, outcome.failed) not in seen:
            seen.add((kind, outcome.failed))
            yield Failure(str(setting), setting.column, outcome.failed)


def _notes(
    script: ScriptCommand,
    question: Question,
    runs: CompletedRuns,
    base: Setting,
    found: list[ComparedNumber],
    seeds: int,
) -> Iterator[str]:
    done = runs.done
    if base != question.cuts[0]:
        yield f"the others are compared with {base}, the first at which the script comes to its end"
    first, again = done.get(base), done.get(replace(base, again=True))
    is_steady = first is None or again is None or again.failed or same_numbers(first, again)
    if not is_steady:
        yield (
            f"not deterministic: two runs at {base} from the same seed differ"
            f"{_gap(first, again)}; the parts of a difference hold no better than that"
        )
    others = [done.get(replace(base, seed=seed)) for seed in range(1, seeds)]
    if is_steady and any(other is not None and first is not None and same_numbers(first, other) for other in others):
        yield "other seeds give the same numbers: the script sets its own, so there is no error bar"
    elif seeds == 1:
        yield "one seed: there is no error bar; --seeds 3 gives one"
    unit = "batch size" if question.by == "batch size" else "number of ranks"
    sizes = [cut.column for cut in question.cuts if (outcome := done.get(cut)) and not outcome.failed]
    for number in found:
        lacking = [size for size in sizes if size not in [row.size for row in number.rows]]
        if lacking:
            yield f"{number.name} is not reported at {unit} {', '.join(map(str, lacking))}"
        if len({row.epoch for row in number.rows}) > 1:
            ends = ", ".join(f"{row.epoch} at {row.size:,}" for row in number.rows)
            yield f"{number.name} is compared where each run ends: at its value number {ends}"
        if number.no_exact and not number.is_total:
            yield f"{number.name} has no exact value ({number.no_exact}): what averaging does to it is in the rest"
    yield from runs.notes
    if not question.controls:
        yield "without control runs, what is real is not told apart"
    if any(outcome.run.scheduled for outcome in done.values()):
        yield (
            "the learning rate follows a schedule: with another number of updates, a control run may come to another "
            "part of it"
        )
    yield from dict.fromkeys(note for outcome in done.values() for note in outcome.run.notes)


def same_numbers(one: RunOutcome, other: RunOutcome) -> bool:
    """Whether two runs report the same, to the last bit."""
    return [(r.name, r.epoch, _bits(r.reported)) for r in one.readings] == [
        (r.name, r.epoch, _bits(r.reported)) for r in other.readings
    ]


def _bits(value: float) -> float | str:
    return "nan" if math.isnan(value) else value


def _gap(first: RunOutcome | None, again: RunOutcome | None) -> str:
    if first is None or again is None or len(first.readings) != len(again.readings):
        return ""
    pairs = zip(first.readings, again.readings, strict=True)
    name, gap = max(((one.name, abs(one.reported - two.reported)) for one, two in pairs), key=lambda pair: pair[1])
    return f" ({name} by {gap:.2g})"
