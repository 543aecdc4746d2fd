"""`python -m tests.trainers.architecture_table FILE`: what `explain` says of each architecture, as a page."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.trainers.architectures import ARCHITECTURES, REMARKS, Architecture

#: The trials that a column stands for.
COLUMNS: dict[str, tuple[str, ...]] = {
    "alone": ("alone",),
    "neighbours": ("neighbours", "size"),
    "order": ("order",),
    "padding right": ("padding right", "fixed length", "padding content"),
    "padding left": ("padding left",),
    "packing": ("packing",),
    "generation": ("scores", "greedy tokens"),
}
#: From the mildest on; rounding differs between machines, and no answer with it.
STATES = ("untried", "same", "rounding", "convention", "fault")
MARKS = {"untried": "–", "same": "✓", "rounding": "✓", "convention": "told", "fault": "✗"}
PROCESSES = 2


@dataclass(frozen=True)
class ArchitectureRow:
    """What was found of one.

    Attributes:
        name: The model.
        group: The heading that it stands under.
        is_safe: What the report says.
        marks: For each column what it shows.
        gaps: For each column the largest gap of a fault, in standard deviations; None elsewhere.
        begins: Where faults begin.
        notes: What the model has to be told.
    """

    name: str
    group: str
    is_safe: bool | None
    marks: tuple[str, ...]
    gaps: tuple[float | None, ...]
    begins: tuple[str, ...]
    notes: tuple[str, ...]

    def cells(self) -> list[str]:
        """The row of the table."""
        columns = [
            mark if gap is None else f"{mark} {gap:.1g}" for mark, gap in zip(self.marks, self.gaps, strict=True)
        ]
        return [f"`{self.name}`", "safe" if self.is_safe else "**not safe**", *columns]


def row(index: int) -> ArchitectureRow:
    """One of them, built and looked at."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "critical"}
    import torch

    import batchproof

    torch.set_num_threads(1)
    architecture = ARCHITECTURES[index]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, batch = architecture.build()
        found = batchproof.explain(model, **batch)
    marks, gaps = [], []
    for names in COLUMNS.values():
        trials = [trial for trial in found.trials if trial.name in names]
        worst = max((trial.state for trial in trials), key=STATES.index, default="untried")
        faults = [trial.gap or 0.0 for trial in trials if trial.state == "fault"]
        marks.append(MARKS[worst])
        gaps.append(max(faults, default=None))
    begins = tuple(
        f"{one.title}: {one.what}" for one in found.findings if not one.harmless and one.place is not None
    )  # fmt: skip
    notes = tuple(
        f"{trial.name}: {trial.note}"
        for trial in found.trials
        if trial.state == "convention" and trial.name != "training"
    )
    return ArchitectureRow(
        architecture.title, architecture.group, found.is_safe, tuple(marks), tuple(gaps), begins, notes
    )


def rows(architectures: Sequence[Architecture] = ARCHITECTURES) -> Iterator[ArchitectureRow]:
    """All of them, as they are done, in their order."""
    indices = [ARCHITECTURES.index(one) for one in architectures]
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(row, indices)


def page(found: Iterable[ArchitectureRow]) -> str:
    """The page of the documentation."""
    found = list(found)
    parts = [_opening(found)]
    for group in dict.fromkeys(one.group for one in found):
        heads = ["model", "verdict", *COLUMNS]
        lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
        lines += [" | ".join(one.cells()) for one in found if one.group == group]
        parts.append(f"## {group}\n\n" + "\n".join(f"| {line} |" for line in lines))
    parts.append("## What was found, and why\n\n" + "\n".join(faults(found)))
    parts.append("## What a model wants to be told\n\n" + "\n".join(_told(found)))
    return "\n\n".join(parts) + "\n"


def _opening(found: Sequence[ArchitectureRow]) -> str:
    import transformers

    safe = sum(bool(one.is_safe) for one in found)
    return f"""# Architectures

`explain(model, batch)` on {len(found)} architectures, tiny and with random weights, in transformers \
{transformers.__version__}: of {safe} each sample's output depends on that sample alone, but for rounding; \
{len(found) - safe} depend on something else, and each of those was looked into. The weights of a trained model change \
how far an answer moves, not whether it does.

**✓** the same to the last bit, or rounding, told by float64. **told**: the same once the model is told more, or is \
padded on the other side; the end of the page says what. **✗**: another answer; the number says how far it moves, in \
standard deviations of the output. **–**: nothing to try: the model does not take it.

*alone*: one sample without its batch and its padding. *neighbours*: beside other samples, and in smaller batches. \
*padding right*: a little, up to a fixed length, and with other tokens in it. *packing*: several samples in one row, \
told apart by `position_ids`. *generation*: log-probabilities of given tokens and the next 8 greedy tokens, alone and \
in a batch padded on the left.

`python -m tests.trainers.architecture_table docs/architectures.md` writes this page, and a test holds it to what the \
models do."""


def faults(found: Sequence[ArchitectureRow]) -> Iterator[str]:
    """What was found, model by model."""
    for one in found:
        if not one.is_safe or one.name in REMARKS:
            yield f"- `{one.name}`. {REMARKS.get(one.name, '')}"
            yield from (f"    - {begin}" for begin in one.begins)


def _told(found: Sequence[ArchitectureRow]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for one in found:
        for note in one.notes:
            names.setdefault(note, []).append(f"`{one.name}`")
    for note, models in names.items():
        yield f"- {note}: {', '.join(models)}"


def main() -> None:
    """Write the page, and say each row as it is done."""
    done = []
    for one in rows():
        done.append(one)
        print(" | ".join([*one.cells(), *one.begins]), flush=True)
        Path(sys.argv[1]).write_text(page(done), encoding="utf-8")


if __name__ == "__main__":
    main()
