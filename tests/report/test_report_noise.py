"""The report on gradient noise: in a terminal of every width, as a page, and as a picture."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batchproof import GradientNoise
from batchproof.gradients.noise import NoiseRow
from batchproof.gradients.noise.headline import headline, plus_minus, rounded
from batchproof.report import save
from batchproof.report.forms import document_of, render, show
from batchproof.report.html import page
from batchproof.simulation import Estimate

SAMPLES, SCALE = 1024, 48.0


def row(size: int, *, known: bool = True, **changes: Any) -> NoiseRow:
    """A batch size, measured a third of a standard error above what is expected."""
    variance = SCALE * (1 / size - 1 / SAMPLES)
    cosine = 1 / math.sqrt(1 + variance)
    found = {
        "size": size,
        "batches": 200,
        "variance": Estimate(1.02 * variance, 0.06 * variance, variance if known else None),
        "cosine": Estimate(cosine, 0.02 * (1 - cosine), cosine if known else None),
    }
    return NoiseRow(**{**found, **changes})


def noise(sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 256, 1024), **changes: Any) -> GradientNoise:
    found: dict[str, Any] = {
        "target": "mse_loss(Linear(x), y)",
        "place": None,
        "method": "per-sample",
        "reason": "the loss is the mean over samples",
        "samples": SAMPLES,
        "parameters": 10,
        "rows": tuple(row(size) for size in sizes),
        "noise_scale": SCALE,
        "noise_scale_se": 5.7,
        "trace": SCALE,
        "signal": 1.0,
        "signal_se": 0.1,
        "gradient_norm": 1.0,
        "headline": "",
        "batches": 200,
        "seed": 0,
    }
    made = GradientNoise(**{**found, **changes})
    return made if made.headline else replace(made, headline=headline(made))


def by_sizes(**changes: Any) -> GradientNoise:
    """Of a loss that couples samples."""
    unknown = dict.fromkeys(
        ("noise_scale", "noise_scale_se", "trace", "signal", "signal_se", "gradient_norm"), math.nan
    )
    rows = tuple(row(size, known=False) for size in (4, 16, 64, 256))
    return noise(method="batches", reason="it couples", unit=0, rows=changes.pop("rows", rows), **unknown, **changes)


def drowned() -> GradientNoise:
    return noise(signal=0.1, signal_se=0.2, noise_scale=480.0)


NOTHING = Estimate(math.nan, math.nan)
STRANGE = {
    "usual": noise(marked=32),
    "by sizes": by_sizes(marked=16),
    "drowned": drowned(),
    "infinite": noise(signal=-0.1, noise_scale=math.inf, noise_scale_se=math.nan),
    "no value": by_sizes(rows=(row(1, known=False, variance=NOTHING, cosine=NOTHING, undefined=200),), marked=1),
    "no value at some": by_sizes(rows=(row(1, variance=NOTHING, cosine=NOTHING), row(4, known=False))),
    "no gradient": by_sizes(rows=(row(4, variance=Estimate(math.inf, math.nan), cosine=Estimate(0.0, math.nan)),)),
    "one size": noise((16,)),
    "huge": noise((1, 1_048_576), samples=10**8),
    "no noise": noise(noise_scale=1e-18, noise_scale_se=1e-19, trace=1e-18),
    "interrupted": noise((1, 2), interrupted=True, marked=64),
}


@pytest.mark.parametrize("is_verbose", [False, True])
@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("name", STRANGE)
def test_no_line_is_wider_than_the_terminal(name: str, width: int, is_verbose: bool) -> None:
    lines = render(STRANGE[name], width, is_verbose=is_verbose).splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)


def test_the_screen() -> None:
    assert render(noise((8, 32, 1024), marked=32), 80).splitlines() == [
        "✓ batches up to about 48 ± 6 samples pay off (gradient noise scale)",
        "                                                          mse_loss(Linear(x), y)",
        "  at your batch size, 32, a step makes 41% of the progress of a noise-free one;",
        "  at 64 it would make 59%",
        "",
        "  batch size  a step's progress",
        "           8                14%  ████▍",
        "        ▸ 32                41%  ████████████▎",
        "       1,024               100%  ██████████████████████████████",
        "",
        "  Holds for plain SGD at this point of training; with Adam it can differ by",
        "  orders of magnitude.",
        "",
        "  1,024 samples, 10 parameters, seed 0",
    ]


@pytest.mark.parametrize("name", STRANGE)
def test_every_result_is_a_page_and_a_picture(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    save.html(STRANGE[name], tmp_path / "report.html")
    save.png(STRANGE[name], tmp_path / "report.png")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<html" in text
    assert "http" not in text.replace("Content-Security", "")[200:] or "https://" not in text
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert STRANGE[name]._repr_html_().startswith('<div class="batchproof">')


def test_a_row_at_80_and_at_120_columns() -> None:
    narrow, wide = (render(noise(marked=32), width, is_verbose=True) for width in (80, 120))
    assert re.search(r"^   ▸ 32 +1\.482 +± 0\.087 +1\.453 +0\.6385 ± 0\.0072 +41% +████▉$", narrow, re.MULTILINE)
    assert "roughly" not in narrow
    assert re.search(
        r"^   ▸ 32 +1\.482 +± 0\.087 +1\.453 +0\.6385 ± 0\.0072 +0\.6385 +41% +████████████▎$", wide, re.MULTILINE
    )
    assert "cosine to the full gradient" in wide


def test_bars_are_as_long_as_the_progress() -> None:
    lines = render(noise((4, 48, 1024)), 80).splitlines()
    bars = [line.count("█") for line in lines if "%" in line and line.split()[0] in ("4", "48", "1,024")]
    assert bars == [2, 15, 30]


def test_what_is_said() -> None:
    text = " ".join(render(noise(marked=32), 120, is_verbose=True).split())
    assert "drawn 1,024 samples, 10 parameters; 200 batches of each size, without replacement, seed 0" in text
    assert "check the variances are within 0.4 standard errors of what is expected" in text
    assert "1 / (1 + 48 / b)" in text
    assert "a tenth with batches of 5, half with batches of 48, nine tenths with batches of 432" in text
    assert "2x the minimum number of steps and 2x the minimum number of samples" in text
    assert "method the noise scale from 1,024 per-sample gradients: the loss is the mean over samples" in text
    assert "measure again" in text
    assert "arXiv 1812.06162" in text
    assert "arXiv 2505.23971" in text


def test_what_is_not_said_where_it_is_not_known() -> None:
    lost = " ".join(render(drowned(), 120, is_verbose=True).split())
    assert (
        "could not tell which batch size is large enough: 1,024 samples show no gradient beside their noise; the "
        "gradient noise scale is above about" in lost
    )
    assert "1 / (1 +" not in lost
    each = " ".join(render(by_sizes(), 120, is_verbose=True).split())
    assert "gradient noise scale" not in each
    assert "1 / (1 +" not in each
    assert "G is the mean of the gradients g of all batches of a size" in each
    assert "expected" not in each
    assert "check" not in each
    assert "batches larger than 64 hardly pay off" in each
    random = " ".join(render(noise(random=True), 120, is_verbose=True).split())
    assert "check" not in random
    micro = " ".join(render(noise(method="micro-batches", unit=4, reason="vmap fails"), 120, is_verbose=True).split())
    assert "from the gradients of 256 micro-batches of 4: vmap fails" in micro


def test_headlines() -> None:
    assert headline(noise(noise_scale=0.4, noise_scale_se=0.1)) == (
        "single samples are enough: larger batches hardly pay off (gradient noise scale 0.4 ± 0.1)"
    )
    above = by_sizes(rows=(row(4, known=False), row(16, known=False)))
    assert headline(above) == "batches larger than 16 pay off: up to there the noise is larger than the gradient"
    assert headline(STRANGE["no value"]).startswith("could not tell")
    assert "above about 96" in headline(drowned())


def test_a_noise_scale_to_the_digits_that_are_known() -> None:
    pairs = ((48.2, 5.7), (5.23, 0.31), (1234.4, 87.0), (7.0, math.nan), (3.0, 0.0), (1e-9, 1e-9))
    assert [plus_minus(*pair) for pair in pairs] == [
        "48 ± 6", "5.2 ± 0.3", "1,234 ± 87", "7", "3", "0",
    ]  # fmt: skip
    assert [rounded(value) for value in (0.0123, 9.94, 48.6, math.inf, math.nan)] == [
        "0.012", "9.9", "49", "infinity", "unknown",
    ]  # fmt: skip


def test_the_chart() -> None:
    chart = document_of(noise(marked=32)).chart
    assert chart is not None
    assert chart.level == ("the full gradient", 1.0)
    assert [line.look for line in chart.lines] == ["measured", "theory"]
    assert chart.marked == 32
    assert chart.lines[0].points[-1].value == 1.0
    mean = document_of(by_sizes()).chart
    assert mean is not None
    assert mean.level == ("the mean gradient", 1.0)
    assert [line.look for line in mean.lines] == ["measured"]
    assert document_of(STRANGE["no value"]).chart is None


def test_the_page_has_everything() -> None:
    text = re.sub(r"<[^>]+>", " ", page(noise(marked=32)))
    for part in (
        "batches up to about 48 ± 6 samples pay off",
        "At your batch size, 32,",
        "relative variance",
        "roughly",
        "measure again",
    ):
        assert part in text


def test_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = render(noise(marked=32), 100)
    assert text.isascii()
    assert "?" not in text


def test_colour_only_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, coloured = io.StringIO(), io.StringIO()
    show(noise(), Console(file=plain, width=80))
    show(noise(), Console(file=coloured, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[1;32m✓ batches up to" in coloured.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured.getvalue()).split() == plain.getvalue().split()
