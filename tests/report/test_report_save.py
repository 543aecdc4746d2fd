"""Reports as files: a page, a picture, and what is left when that fails."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.reports import STRANGE, curve, simulation

from batchproof import BatchproofError, Explanation, explain
from batchproof.explanation import Finding, Place
from batchproof.report import save
from batchproof.report.chart_layout import Marker, Stroke, Words
from batchproof.report.forms import document_of
from batchproof.report.html import page
from batchproof.report.poster import MARGIN, MONO, SANS, WIDTH, poster


@pytest.fixture(scope="module")
def found() -> Explanation:
    generator = torch.Generator().manual_seed(1)
    return explain(lambda x: x.square().mean().sqrt(), torch.randn(442, generator=generator), mark=16)


def needs_matplotlib() -> None:
    pytest.importorskip("matplotlib")


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    across, down = struct.unpack(">II", png[16:24])
    return across, down


def test_a_page(found: Explanation, tmp_path: Path) -> None:
    save.html(found, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(found)
    save.html(simulation(), str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(simulation())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_picture(found: Explanation, tmp_path: Path) -> None:
    needs_matplotlib()
    for report in (found, simulation(marked=10)):
        save.png(report, tmp_path / "report.png")
        across, down = size_of((tmp_path / "report.png").read_bytes())
        assert across == round(2 * WIDTH)
        assert 1200 < down < 3000


def test_a_picture_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    needs_matplotlib()
    import matplotlib

    asked = {"text.usetex": True, "font.size": 31.0, "axes.facecolor": "red", "figure.dpi": 17.0}
    with matplotlib.rc_context(asked):
        save.png(simulation(), tmp_path / "asked.png")
        assert {key: matplotlib.rcParams[key] for key in asked} == asked
    save.png(simulation(), tmp_path / "usual.png")
    assert (tmp_path / "asked.png").read_bytes() == (tmp_path / "usual.png").read_bytes()


def test_pyplot_is_not_needed(tmp_path: Path) -> None:
    needs_matplotlib()
    code = (
        "import sys; from tests.reports import simulation; from batchproof.report import save\n"
        f"save.png(simulation(), {str(tmp_path / 'a.png')!r}); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("values", STRANGE)
def test_any_curve_can_be_painted(found: Explanation, tmp_path: Path, values: tuple[float, ...]) -> None:
    needs_matplotlib()
    save.png(replace(found, curve=curve(*values), marked=2), tmp_path / "strange.png")


def test_formulas_and_foreign_letters_are_painted_as_they_are(found: Explanation, tmp_path: Path) -> None:
    needs_matplotlib()
    odd = replace(found, target="損失($x$, $\\frac{1}", headline="reads $\\bad$ 損失 LOW", notes=("100$ and 200$",))
    save.png(odd, tmp_path / "odd.png")


def test_the_picture_has_the_verdict_the_line_the_table_and_the_remedy() -> None:
    place = Place("loss.py", 7, "root = torch.sqrt(mean)")
    reason = Finding("nonlinear", "a nonlinear function of a mean", "taken in each batch", "average first", place)
    given = explain(lambda x: x.square().mean().sqrt(), torch.randn(300), mark=16)
    shapes = poster(document_of(replace(given, findings=(reason,), place=place))).shapes
    text = " ".join(" ".join(shape.text for shape in shapes if isinstance(shape, Words)).split())
    for part in (
        "lambda(x) loss.py:7 ✗ the function depends on the batch size: ", "too low at batch size 16",
        "your batch size: 16",
        "root = torch.sqrt(mean)", "a nonlinear function of a mean: taken in each batch.", "# fn: your function",
        "batch size 1 4 ▸16", "average ", "metric(x) # on each batch, in place of fn(x)",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("name", ["all", "long"])
def test_nothing_leaves_the_picture(found: Explanation, name: str) -> None:
    place = Place("a/very/long/path/" * 8 + "loss.py", 7, "x = " + "y + " * 80)
    long = replace(found, target="f(" + "argument, " * 40 + ")", place=place, headline="so " * 90,
                   findings=(Finding("ratio", "title " * 30, "text " * 90, "remedy " * 40, place),))  # fmt: skip
    sheet = poster(document_of(long if name == "long" else simulation(marked=100_000)))
    for shape in sheet.shapes:
        if isinstance(shape, Words):
            width = len(shape.text) * shape.size * (MONO if shape.mono else SANS)
            right = shape.at[0] + {"start": width, "middle": width / 2, "end": 0}[shape.anchor]
            assert right <= WIDTH - MARGIN / 2, shape.text
        for x, y in shape.points if isinstance(shape, Stroke) else [shape.at]:
            assert 0 < x < WIDTH
            assert 0 < y < sheet.height
    downward = [shape.at[1] for shape in sheet.shapes if isinstance(shape, Words) and shape.mono]
    assert downward == sorted(downward)
    assert any(isinstance(shape, Marker) for shape in sheet.shapes)


def test_a_missing_matplotlib_is_one_line_with_the_way_to_install_it(
    found: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        BatchproofError, match=r'^a PNG is drawn with matplotlib, .*pip install "batchproof\[plot\]"'
    ) as at:
        save.png(found, tmp_path / "report.png")
    assert "\n" not in str(at.value)
    assert list(tmp_path.iterdir()) == []
    save.html(found, tmp_path / "report.html")


def test_paths_that_cannot_be_written(found: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BatchproofError, match=r"cannot write .*report.html: there is no directory .*nowhere"):
        save.html(found, tmp_path / "nowhere" / "report.html")
    with pytest.raises(BatchproofError, match=r"cannot write .*: it is a directory"):
        save.html(found, tmp_path)
    (tmp_path / "mine.html").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a superuser may write everywhere
    with pytest.raises(BatchproofError, match=r"cannot write .*mine.html: permission denied"):
        save.html(found, tmp_path / "mine.html")
    with pytest.raises(BatchproofError, match=r"cannot write .*new.html: permission denied in"):
        save.html(found, tmp_path / "new.html")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_failure_leaves_what_was_there(found: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("the one of yesterday")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BatchproofError, match=r"cannot write .*report.html: No space left on device"):
        save.html(found, path)
    assert path.read_text() == "the one of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_followed_and_devices_are_not_replaced(found: Explanation, tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "link.html").symlink_to(tmp_path / "real.html")
    save.html(found, tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").read_text(encoding="utf-8") == page(found)
    if Path("/dev/null").exists():
        save.html(found, "/dev/null")
        assert not Path("/dev/null").is_file()


def test_a_new_file_can_be_read_by_others(found: Explanation, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save.html(found, tmp_path / "report.html")
    finally:
        os.umask(before)
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o644
