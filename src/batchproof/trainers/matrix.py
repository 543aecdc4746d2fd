"""Does trainer X train the loss that it says? Each case in each setting, as a table and as a page."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from batchproof.errors import BatchproofError
from batchproof.gradients.check import GradientCheck
from batchproof.ground.isolation import preserved, seed_all
from batchproof.ground.text import first_line
from batchproof.trainers.cases import Case
from batchproof.trainers.tiny import EpochSetting

SETTINGS = (
    EpochSetting("2 × 4"),
    EpochSetting("1 × 8", micro_batch=1, steps=8),
    EpochSetting("padded", is_padded=True),
    EpochSetting("short window", is_short=True),
)
RIGHT, NOT_THERE, FAILED, MISSING = "✓", "–", "failed", "not installed"
#: So that nothing is looked for elsewhere.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


@dataclass(frozen=True)
class Cell:
    """What a case came to in a setting.

    Attributes:
        word: `RIGHT`, the causes, `NOT_THERE` where the trainer has no such setting, or ``failed``.
        check: What was found.
        error: Why it could not be checked.
    """

    word: str
    check: GradientCheck | None = None
    error: str = ""


@dataclass(frozen=True)
class Row:
    """A case, its package's version (none where it is not installed), and a cell for each setting."""

    case: Case
    version: str
    cells: tuple[Cell, ...]


def rows(cases: Sequence[Case]) -> Iterator[Row]:
    """Each case in every setting, as they are done."""
    for case in cases:
        number = _version(case.package)
        # a Trainer collects garbage at the start of every run, which takes longer than the run: in all that is loaded
        gc.freeze()
        with _offline():
            yield Row(case, number, tuple(_cell(case, setting) for setting in SETTINGS) if number else ())
        gc.unfreeze()


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""


def _cell(case: Case, setting: EpochSetting) -> Cell:
    if (setting.is_short and not case.has_short) or setting.micro_batch < case.smallest:
        return Cell(NOT_THERE)
    with tempfile.TemporaryDirectory() as folder, preserved():
        seed_all(0)
        try:
            found = case.check(setting, folder)
        except BatchproofError as error:
            return Cell(FAILED, error=first_line(error))
        except Exception as error:  # noqa: BLE001 - a trainer that does not run is a row, too
            return Cell(FAILED, error=f"{type(error).__name__}: {first_line(error)}")
    return Cell(" + ".join(finding.code for finding in found.findings) or RIGHT, found)


@contextmanager
def _offline() -> Iterator[None]:
    kept = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(_OFFLINE)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# ---------------------------------------------------------------------- as text


INTRODUCTION = (
    "A step over K micro-batches should have the gradient of its samples as one batch: whoever halves the batch "
    "size and doubles the accumulation does so for memory, not for another loss. Here each trainer runs its own "
    "code both ways, on small models made from settings, with dropout off and in float32."
)
LEGEND = (
    f"{RIGHT}: equal up to rounding. Otherwise the cause, as in [checking gradients](check-gradients.md#the-causes). "
    f"{NOT_THERE}: the trainer has no such setting."
)
COLUMNS = (
    "`2 × 4`: micro-batches of 2 samples, 4 for each optimizer step, all with as many labels. `1 × 8`: "
    "micro-batches of one sample. `padded`: micro-batches with different numbers of labels, or of tokens in "
    "completions. `short window`: the epoch's last optimizer step has half the micro-batches."
)
AGAIN = """All of it again, or the rows with a text in their name, with the report of each cell that is off:

```sh
pip install "batchproof[trainers]"
python -m batchproof.trainers
python -m batchproof.trainers "GRPO, bnpo" -v
```"""
BEYOND = (
    "Your own trainer, model and data: [checking gradients](check-gradients.md#hugging-face-trainer). All of this "
    "is in one process; over several, `check_gradients(step, samples, model, ranks=)` cuts a step: "
    "[ranks](ranks.md)."
)


def page(done: Sequence[Row]) -> str:
    """The table with what it means, as Markdown."""
    title = "# Does trainer X train the loss that it says?"
    return "\n\n".join([title, INTRODUCTION, LEGEND, "\n".join(_table(done)), COLUMNS, AGAIN, BEYOND]) + "\n"


def _table(done: Sequence[Row]) -> Iterator[str]:
    yield f"| trainer | {' | '.join(setting.name for setting in SETTINGS)} |"
    yield f"| --- {'| --- ' * len(SETTINGS)}|"
    for row in done:
        words = [_in_markdown(cell) for cell in row.cells] or [MISSING, *[""] * (len(SETTINGS) - 1)]
        yield f"| {row.case.package} {row.version}: {row.case.name} | {' | '.join(words)} |"


def _in_markdown(cell: Cell) -> str:
    return cell.word if cell.word in (RIGHT, NOT_THERE) else f"`{cell.word}`"
