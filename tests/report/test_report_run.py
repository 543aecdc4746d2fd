"""The report on a run, in each form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchproof.ground.place import Place
from batchproof.report import save
from batchproof.report.forms import document_of, render
from batchproof.report.html import page
from batchproof.scripts.run import Epoch, MeasuredAccumulator, Observation, Reported, ScriptRun
from batchproof.scripts.run.document import headline as headline_of
from batchproof.scripts.run.document import live_line, state_of

EPOCH = Epoch(
    2, printed=0.8, exact=1.0, mean=0.8, weighted=0.85, averaged=0.8, sizes=((16, 27), (10, 1)), steps=28, updates=28
)
ROOT = MeasuredAccumulator(
    "train_loss", "total", ("train_loss",), Place("train.py", 11, "total += loss.item()"), "training", "a mean",
    why="the square root is taken of each batch", cause=Place("train.py", 4, "return mean.sqrt()"),
    remedy="compute it once", epochs=(replace(EPOCH, number=1), EPOCH),
)  # fmt: skip
RIGHT = replace(ROOT, name="val_loss", epochs=(replace(EPOCH, number=1, printed=1.0),), why="", cause=None, remedy="")
UNKNOWN = replace(RIGHT, name="other", epochs=(replace(EPOCH, number=1, exact=None, reason="the model computes it"),))
RUN = ScriptRun(
    "train.py --epochs 2",
    (ROOT, RIGHT, UNKNOWN),
    seen=(
        Observation("updates", "28 optimizer steps in a pass", Place("train.py", 8)),
        Observation("statistics", "BatchNorm1d in training mode", Place("train.py", 20), False, "call model.eval()"),
    ),
    reported=Reported("val_loss", (0.5, 0.25), Place("train.py", 30)),
    failed="ValueError: broken",
    notes=("a note",),
    places=3,
)


def test_the_screen() -> None:
    assert render(replace(RUN, fix=("batchproof lint --fix train.py",)), 80).splitlines() == [
        "✗ 1 of 2 numbers is off: train_loss, 20.0% too low           train.py --epochs 2",
        "  ValueError: broken: what was measured by then is shown",
        "",
        "  line  number      batches       printed   exact     off",
        "    11  train_loss  27 × 16 + 10  0.8000   1.0000  -20.0%",
        "    11  val_loss    27 × 16 + 10  1.0000   1.0000       ✓",
        "    11  other       27 × 16 + 10  0.80000               ?",
        "",
        "  other: not measured: the model computes it",
        "  val_loss = 0.25, from train.py:30",
        "  a note",
        "",
        "  Why   train.py:4   return mean.sqrt()",
        "        train_loss: the square root is taken of each batch",
        "        train.py:20",
        "        BatchNorm in training mode in evaluation: BatchNorm1d in training mode",
        "        → call model.eval()",
        "  Fix   batchproof lint --fix train.py",
    ]


def test_all_of_it() -> None:
    text = render(RUN, 100, is_verbose=True)
    assert "  line  number      pass  printed   exact  difference     off  weighted  batches\n" in text
    assert "        not measured: the model computes it\n" in text
    assert "  seen   train.py:8: 28 optimizer steps in a pass" in text
    assert "→ compute it once" in text


def test_a_long_table_says_how_much_of_it_is_missing() -> None:
    epochs = tuple(replace(EPOCH, sizes=((size, 1),)) for size in range(1, 31))
    text = render(replace(RUN, measured=(replace(ROOT, epochs=epochs),)), 80)
    assert "and 14 more rows with -v" in text


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    wide = replace(ROOT, place=replace(ROOT.place, file="a/longer/path/engine.py"), name="a_rather_long_name")
    for run in (RUN, replace(RUN, measured=(wide, RIGHT))):
        lines = [line for verbose in (False, True) for line in render(run, width, is_verbose=verbose).splitlines()]
        assert max(map(len, lines)) <= width
        assert any("-20.0%" in line for line in lines)


@pytest.mark.parametrize(
    ("run", "headline", "state"),
    [
        (ScriptRun("a.py"), "nothing measured: no place was found where it averages over batches", None),
        (
            ScriptRun("a.py", places=2),
            "nothing measured: no average was read at the 2 places where batches are added up",
            None,
        ),
        (ScriptRun("a.py", (RIGHT,)), "1 number measured, all exact", True),
        (ScriptRun("a.py", (ROOT,)), "train_loss is 20.0% too low", False),
        (ScriptRun("a.py", (UNKNOWN,)), "could not tell: 1 number with no exact value beside it", None),
    ],
)
def test_headlines(run: ScriptRun, headline: str, state: bool | None) -> None:
    assert headline_of(run) == headline
    assert state_of(run) is state
    assert headline in " ".join(render(run, 100).split())


def test_pages_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = page(RUN)
    assert "<strong>train_loss:</strong> the square root is taken of each batch" in text
    assert '<th scope="col" class="size">line</th>' in text
    assert "the model computes it" in text
    save.png(RUN, tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_a_document_names_what_is_wrong_only() -> None:
    document = document_of(RUN)
    assert [reason.title for reason in document.reasons] == [
        "train_loss",
        "BatchNorm in training mode in evaluation",
    ]
    assert {aside.label: aside.text for aside in document.asides}["other"] == "not measured: the model computes it"


def test_a_line_for_each_epoch() -> None:
    assert live_line(ROOT, EPOCH) == (
        "batchproof: train_loss (train.py:11), epoch 2: printed 0.8, exact 1, 20.0% too low"
    )
    assert live_line(UNKNOWN, UNKNOWN.last).endswith("epoch 1: no exact value; the model computes it")
    assert live_line(RIGHT, RIGHT.last).endswith("printed 1, exact 1, exact")


def test_status() -> None:
    assert [ScriptRun("a.py", rows).exit_status for rows in ((), (RIGHT,), (ROOT, RIGHT), (UNKNOWN,))] == [2, 0, 1, 2]
