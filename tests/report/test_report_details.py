"""A document as lines of text with ``-v``: parts under their headings, tables that fit, bars beside them."""

from __future__ import annotations

import pytest

from batchproof.ground.place import Place
from batchproof.report.document import Aside, Brief, Column, Document, Group, Reason, Sheet
from batchproof.report.screen import screen

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
    return [line.plain.rstrip() for line in screen(document, width, is_verbose=True)]


def test_parts_stand_in_the_order_of_reading() -> None:
    document = Document(
        "rmse(x)", PLACE, False, "depends", yours="yours is 16",
        reasons=(Reason("a root", "of each batch", PLACE, "take it once"), Reason("a ratio", "of totals")),
        asides=(Aside("given", "x guessed", is_warning=True), Aside("keep", "16 bytes")), use=("exact(rmse)",),
        caption=("two rows",), caption_label="on",
    )  # fmt: skip
    found = text_of(document)
    assert found[1:3] == ["  x guessed", "  yours is 16"]
    labels = [line.split()[0] for line in found[4:] if line.startswith("  ") and line[2:3].strip()]
    assert labels == ["Why", "Fix", "on", "keep"]
    assert "  Why   loss.py:7   return mean.sqrt()" in found
    assert "        → take it once" in found


def test_what_is_safe_needs_no_fix() -> None:
    for state, heading in ((True, "Use"), (None, "Use"), (False, "Fix")):
        assert f"  {heading}   exact(rmse)" in text_of(Document("rmse(x)", None, state, "so", use=("exact(rmse)",)))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_in_a_section_fits(width: int) -> None:
    document = Document("net", None, None, "so", caption=("two rows",), caption_label="grads", sheet=FIGURES)
    found = text_of(document, width)
    assert max(map(len, found)) <= width
    assert "  grads  two rows" in found
    head = found.index("  grads  two rows") + 2
    assert found[head].split() == ["parameter", "full", "ratio"]
    assert found[head + 1].strip().startswith(NAMES[0])


def test_names_lose_their_start_before_the_last_column_does() -> None:
    columns = tuple(Column(f"column {n}", ("1" * 12,) * 2) for n in range(6))
    wide = Sheet(NAMES, (Group("", columns),), in_words=True, is_stacked=True)
    found = text_of(Document("net", None, None, "so", brief=Brief(tables=(wide,))), 60)
    assert max(map(len, found)) <= 60
    head = next(line for line in found if "column 5" in line)
    assert "column 0" not in head
    assert any("…" in line and "weight  " in line for line in found)


def test_bars_take_the_room_that_is_left() -> None:
    found = text_of(Document("f", None, True, "so", caption=("drawn",), sheet=BY_SIZE))
    assert "mean" in " ".join(found) and "(Example 2)" in " ".join(found)
    assert found[-1].endswith("█")
    assert any("▸ 8" in line for line in found)
