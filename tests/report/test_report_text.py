"""A document as lines of text: sections under their labels, tables that fit, a strip under its plot."""

from __future__ import annotations

import math

import pytest

from batchproof.ground.place import Place
from batchproof.report.document import Aside, Column, Document, Group, Reason, Sheet, Strip, StripCurve, StripRow
from batchproof.report.text import lines

PLACE = Place("loss.py", 7, "return mean.sqrt()")
NAMES = ("encoder.layers.0.attention.weight", "encoder.layers.0.attention.bias")
FIGURES = Sheet(
    NAMES,
    (Group("", (Column("full", ("1.0", "2.0")), Column("ratio", ("1.5", "2.5"), "answer"))),),
    None,
    "parameter",
    True,
)
SIZES = tuple(2**power for power in range(12))
BY_SIZE = Sheet(
    tuple(map(str, SIZES)),
    (Group("mean", (Column("value", tuple(map(str, SIZES))),), "Example 2", tuple(size / 2048 for size in SIZES)),),
    marked=3,
)


def text_of(document: Document, width: int = 80) -> list[str]:
    return [line.plain.rstrip() for line in lines(document, width)]


def test_sections_stand_in_the_order_of_reading() -> None:
    document = Document(
        "rmse(x)", PLACE, False, "depends", yours="yours is 16", given=Aside("given", "x guessed", is_warning=True),
        reasons=(Reason("a root", "of each batch", PLACE, "take it once"), Reason("a ratio", "of totals")),
        alternatives=("another loss",), asides=(Aside("keep", "16 bytes"),), use=("exact(rmse)",), notes=("a note",),
    )  # fmt: skip
    found = text_of(document)
    labels = [line[2:9].strip() for line in found if line.startswith("  ") and line[2:3].strip()]
    assert labels == ["yours", "given", "why", "also", "or", "keep", "use", "note"]
    assert "  why    loss.py:7   return mean.sqrt()" in found
    assert "         → take it once" in found


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_in_a_section_fits(width: int) -> None:
    document = Document("net", None, None, "so", caption=("two rows",), caption_label="grads", sheet=FIGURES)
    found = text_of(document, width)
    assert max(map(len, found)) <= width
    assert found[3] == "  grads  two rows"
    assert found[4].split() == ["parameter", "full", "ratio"]
    assert found[5].startswith(f"         {NAMES[0]}  ")


def test_names_lose_their_start_before_the_last_column_does() -> None:
    wide = Sheet(NAMES, (Group("", tuple(Column(f"column {n}", ("1" * 12,) * 2) for n in range(6))),), in_words=True)
    found = text_of(Document("net", None, None, "so", asides=(Aside("steps", "", table=wide),)), 60)
    assert max(map(len, found)) <= 60
    assert "column 5" in found[3] and "column 0" not in found[3]
    assert "…" in found[4] and "weight  " in found[4]


def test_bars_take_the_room_that_is_left() -> None:
    found = text_of(Document("f", None, True, "so", caption=("drawn",), sheet=BY_SIZE))
    assert "mean" in " ".join(found) and "(Example 2)" in " ".join(found)
    assert found[-2].endswith("█")
    assert any("▸ 8" in line for line in found)


def test_a_strip_keeps_the_readers_own_size() -> None:
    values = tuple(math.sqrt(size) for size in SIZES)
    cells = tuple(f"{value:.2f}" for value in values)
    rows = (
        StripRow("mean", cells),
        StripRow("weighted", cells, is_optional=True),
        StripRow("±", ("",) * 12, "faint", True),
    )
    strip = Strip(SIZES, rows, 512, StripCurve(values, 2.0, "exact", 0.0, 2))
    found = text_of(Document("f", None, False, "so", caption=("12 sizes",), caption_label="size", strip=strip), 60)
    head = next(line for line in found if "batch" in line)
    assert "▸512" in head and " 1 " in head and head.endswith("2,048")
    assert any("exact" in line for line in found)
    assert not any("weighted" in line or "±" in line for line in found)


def test_figures_of_an_optional_row_keep_their_distance() -> None:
    rows = (
        StripRow("mean", ("0.00258",) * 3),
        StripRow("weighted", ("0.00258", "-0.00040", "-0.00331"), is_optional=True),
    )
    strip = Strip((1, 2, 4), rows, None, None)
    found = text_of(Document("loss", None, None, "so", caption=("3 samples",), caption_label="size", strip=strip))
    assert "weighted   0.00258 -0.00040 -0.00331" in found[-1]
