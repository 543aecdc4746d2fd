"""Tables whose groups stand one below the other, and what is said below their rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchproof.report.details import details
from batchproof.report.document import Aside, Column, Document, Group, RowLook, Shares, Sheet
from batchproof.report.html import _parts
from batchproof.report.page import render

RUNS = Sheet(
    ("3", "7"),
    (
        Group(
            "",
            (
                Column("name", ("train_loss", "test_loss"), is_left=True, is_name=True),
                Column("exact", ("1.25", "10.00")),
                Column("by samples", ("1.5", "")),
            ),
        ),
    ),
    label="line",
    is_stacked=True,
)
BILL = Sheet(
    ("reported", "  a part", "updates", "exact"),
    (
        Group(
            "one",
            (Column("16", ("1", "", "20", "")), Column("64", ("3", "+2", "5", ""))),
            shares=Shares("of the difference", 1, (None, 1.0, None, None)),
        ),
        Group(
            "two",
            (Column("16", ("4", "", "20", "4")), Column("64", ("4", "", "5", "4"))),
            "second",
            headline="same",
        ),
    ),
    in_words=True,
    is_stacked=True,
    looks=(RowLook(), RowLook(), RowLook(section=1, is_optional=True), RowLook(section=1)),
)


def shown(sheet: Sheet, width: int = 80, **parts: object) -> list[str]:
    document = Document("title", None, None, "headline", sheet=sheet, **parts)  # type: ignore[arg-type]
    return render(lambda room: details(document, room), width).splitlines()


def test_names_stand_at_the_left_and_figures_at_the_right() -> None:
    assert shown(RUNS) == [
        "",
        "  line  name        exact  by samples",
        "     3  train_loss   1.25         1.5",
        "     7  test_loss   10.00",
    ]


def test_columns_without_room_stand_below() -> None:
    group = RUNS.groups[0]
    name = replace(group.columns[0], cells=("train_loss_of_the_first_part", "test_loss"))
    wide = Column("batches", ("1 × 16 + 4 × 12345678 + 8",) * 2)
    sheet = replace(RUNS, groups=(replace(group, columns=(name, *group.columns[1:], wide)),))
    assert shown(sheet, 60) == [
        "",
        "  line  name             exact  by samples",
        "     3  train_loss_of_…   1.25         1.5",
        "     7  test_loss        10.00",
        "  line                    batches",
        "     3  1 × 16 + 4 × 12345678 + 8",
        "     7  1 × 16 + 4 × 12345678 + 8",
    ]


def test_the_readers_own_row_and_bars() -> None:
    column = Column("progress", ("15%", "100%"))
    sheet = Sheet(("8", "32"), (Group("", (column,), bars=(0.15, 1.0)),), marked=1, is_stacked=True)
    assert shown(sheet, 40)[1:] == [
        "  batch size  progress",
        "           8       15%  ████▌",
        "        ▸ 32      100%  ██████████████████████████████",
    ]


def test_what_is_said_of_a_row_stands_below_it() -> None:
    found = shown(
        RUNS, asides=(Aside("test_loss", "not measured", row=1), Aside("seen", "this"), Aside("seen", "that"))
    )
    assert found == [
        "",
        "  line  name        exact  by samples",
        "     3  train_loss   1.25         1.5",
        "     7  test_loss   10.00",
        "        not measured",
        "",
        "  seen   this",
        "         that",
    ]


def test_a_group_has_its_own_rows_and_repeats_no_condition() -> None:
    assert shown(BILL, 60) == [
        "",
        "  one",
        "  batch size   16   64   of the difference",
        "  reported      1    3",
        "    a part          +2    100% " + "█" * 29,
        "",
        "  updates      20    5",
        "",
        "  two (second)",
        "  same",
        "  batch size   16   64",
        "  reported      4    4",
        "",
        "  exact         4    4",
    ]


def test_a_row_that_differs_from_the_first_groups_is_shown() -> None:
    other = replace(BILL.groups[1], columns=(Column("16", ("4", "", "20", "4")), Column("64", ("4", "", "6", "4"))))
    assert "  updates      20    6" in shown(replace(BILL, groups=(BILL.groups[0], other)))


def test_pages_say_the_headlines_of_groups_together() -> None:
    document = Document("t", None, None, "h", sheet=BILL)
    assert "<p>Same.</p>" in "".join(_parts(document))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_dotted_names_of_parameters_lose_their_start(width: int) -> None:
    names = tuple(f"backbone.transformer_encoder.layers.{n}.self_attention.out_projection.weight" for n in (1, 2))
    columns = tuple(Column(title, ("1.234", "5.678")) for title in ("full", "accumulated", "ratio", "cosine", "off by"))
    found = shown(Sheet(names, (Group("", columns),), label="parameter", in_words=True, is_stacked=True), width)
    assert max(map(len, found)) <= width
    assert sum("…" in line and "projection.weight  " in line for line in found) >= 2
    assert all(any(column.title in line for line in found) for column in columns)
