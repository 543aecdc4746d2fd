"""Whether a run has something to compare: asked of the first, before hours go into the others."""

from __future__ import annotations

from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.scripts.compare.assemble import names
from batchproof.scripts.compare.record import RunOutcome
from batchproof.scripts.compare.scheduler import BLANK, ScriptCommand
from batchproof.scripts.compare.totals import totals

#: How `Run.notes` speaks of them.
BY_TRAINER = ": averaged by a trainer"
LOOKED_FOR = (
    "looked for totals or lists that a loop over batches adds to, and for their averages (total / len(loader), "
    "np.mean(losses), meter.avg)"
)


def check(script: ScriptCommand, outcome: RunOutcome, epoch: int | None) -> None:
    """Whether a run has something to compare.

    Raises:
        BatchproofError: it has not; the message says what was looked for.
    """
    title = script.target
    if not outcome.loaders and not script.has_blank:
        raise BatchproofError(
            f"{title} builds no DataLoader whose batch size could be set: put {BLANK} where its arguments say the "
            f"batch size, as in batchproof compare {title} --batch-size 16,64 -- --batch-size {BLANK}"
        )
    found = names(outcome)
    known = {alias for reading in outcome.readings for alias in (reading.name, *reading.aliases)}
    if script.report is not None and script.report not in known:
        has = f"it reports {', '.join(found)}" if found else f"{LOOKED_FOR}, and found none"
        raise BatchproofError(f"{title} gives no variable and no key of a log {script.report!r} a number; {has}")
    if not found:
        of_trainer = _averaged_by_trainer(outcome)
        if of_trainer:
            raise BatchproofError(
                f"{title} leaves its averages to a trainer: say which number is meant, as in --report {of_trainer[-1]}"
            )
        where = f"found {outcome.places}, and none of them ran" if outcome.places else "found none"
        raise BatchproofError(
            f"{title} reports no number that batchproof recognises: {LOOKED_FOR}, and {where}; {_to_name(script)}"
        )
    last = max(reading.epoch for reading in outcome.readings)
    if epoch is not None and not 1 <= epoch <= last:
        raise BatchproofError(f"--epoch {epoch}: {title} has the epochs 1 to {last}" if last > 1 else
                              f"--epoch {epoch}: {title} has one epoch")  # fmt: skip


def _to_name(script: ScriptCommand) -> str:
    """What to ask for instead."""
    for name, place in () if script.as_module else totals(Path(script.target)).items():
        return f"line {place.line} adds up {name}, which nothing divides: --report {name} compares that total"
    return "name the variable that holds the number, as in --report train_loss"


def _averaged_by_trainer(outcome: RunOutcome) -> list[str]:
    """The names of what a method that a trainer calls gives it to average."""
    notes = [note.partition(BY_TRAINER) for note in outcome.notes]
    return [name for names, found, _ in notes if found for name in names.split(", ")]
