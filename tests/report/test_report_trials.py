"""The report on a model: what was tried, row by row, rounding in a sentence, and the heat strip of a page."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from batchproof import Explanation, explain
from batchproof.explanation import Finding, Place
from batchproof.explanation.result import ModuleGap, RowTrial
from batchproof.explanation.trials import conventions, heat_strip, rounding_in_words
from batchproof.report.chart_layout import WIDTH, Stroke
from batchproof.report.forms import document_of, render
from batchproof.report.heat_layout import heat_height, heat_layout
from batchproof.report.html import page
from batchproof.report.poster import poster

LAYERS = [f"encoder.layer.{layer}.{part}" for layer in range(24) for part in ("attention", "dense")]
SAME = RowTrial("neighbours", "beside other samples", "same", 0.0, answers=4)
ROUNDED = RowTrial(
    "alone", "alone, not in a batch", "rounding", 3e-7, 2e-16, 2.0, 0, 4, "encoder.layer.0.attention", "Linear",
    Place("net.py", 7, "y = self.q(x)"), modules=tuple(ModuleGap(name, "Linear", 3e-7) for name in LAYERS),
)  # fmt: skip
FAULT = RowTrial(
    "padding right", "padding on the right", "fault", 1.1, 1.1, 6.9e6, 2, 4, "encoder.pooler", "Pooler",
    Place("net.py", 17, "return x.mean(1)"),
    modules=(*(ModuleGap(name, "Linear", 0.0) for name in LAYERS), ModuleGap("encoder.pooler", "Pooler", 1.1)),
)  # fmt: skip
CONVENTION = RowTrial(
    "padding left", "padding on the left", "convention", 0.64, 0.64, 4e6, 0, 4, "embed", "Embedding",
    note="pass position_ids",
)  # fmt: skip
UNTRIED = RowTrial("packing", "packed with others", "untried", note="the model takes neither segments nor positions")


def about(*trials: RowTrial, safe: bool = False, **more: Any) -> Explanation:
    cause = Finding("padding", "encoder.pooler (Pooler)", "it takes a mean", "multiply by the mask", FAULT.place)
    known: dict[str, Any] = {
        "target": "Net(input_ids)", "kind": "model", "is_safe": safe, "verdict": "independent" if safe else "padding",
        "headline": "Net is safe" if safe else "Net depends on padding", "place": Place("net.py", 3, "def forward"),
        "curve": None, "keep": None, "findings": () if safe else (cause,), "trials": trials, "one_ulp": 6e-7,
    }  # fmt: skip
    return Explanation(**known | more)


MIXED = about(SAME, ROUNDED, FAULT, CONVENTION, UNTRIED)


def test_a_row_for_each_trial() -> None:
    assert render(MIXED, 100).splitlines() == [
        "✗ Net depends on padding                                                                    net.py:3",
        "",
        "  what was changed        output       moves by   flipped   begins in",
        "  beside other samples    same bits",
        "  alone, not in a batch   rounding       2 ulps             encoder.layer.0.attention",
        "  padding on the right    fault         1.1 std    2 of 4   encoder.pooler",
        "  padding on the left     convention   0.64 std             embed   → pass position_ids",
        "  packed with others      not tried   the model takes neither segments nor positions",
        "",
        "  Why   net.py:17   return x.mean(1)",
        "        encoder.pooler (Pooler): it takes a mean",
        "        → multiply by the mask",
        "",
        "  std: standard deviations of the output, ulp: unit in the last place",
    ]


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120])
def test_a_table_of_every_width(width: int) -> None:
    for text in (render(MIXED, width), render(MIXED, width, is_verbose=True)):
        assert max(map(len, text.splitlines())) <= width
        assert "fault" in text
    assert render(MIXED, width).count("what was changed") == 1, "one block: a path has no room before the figures do"
    assert ("begins in" in render(MIXED, width)) == (width > 60)
    assert re.search(r"…\S+attention|encoder.layer.0.attention", render(MIXED, width)) or width == 60


def test_all_figures_with_v() -> None:
    lines = render(MIXED, 100, is_verbose=True).splitlines()
    heads = next(line for line in lines if "in float64" in line)
    assert re.split(r" {2,}", heads.strip()) == [
        "what was changed", "output", "std", "in float64", "ulps", "answers", "begins at",
    ]  # fmt: skip
    row = next(line for line in lines[lines.index(heads) :] if "alone" in line)
    assert re.split(r" {2,}", row.strip()) == [
        "alone, not in a batch",
        "rounding",
        "3e-07",
        "2e-16",
        "2",
        "4",
        "net.py:7",
    ]


def test_rounding_is_said_as_a_person_would() -> None:
    safe = about(SAME, ROUNDED, UNTRIED, safe=True)
    assert rounding_in_words(safe.trials, safe.one_ulp) == (
        "the last bits differ with the batch (2 ulps; moving the inputs by one ulp moves the outputs by 4): rounding, "
        "no answer changed; they first differ in encoder.layer.0.attention (Linear)"
    )
    assert "The last bits differ with the batch" in " ".join(render(safe, 80).split())
    assert "The last bits" not in render(MIXED, 80), "beside a fault they are no news"
    padded = replace(ROUNDED, name="padding left", title="padding on the left")
    assert rounding_in_words((ROUNDED, padded), None).startswith(
        "the last bits differ with padding and the batch (2 ulps)"
    )
    assert "less than 1 ulp" in rounding_in_words((replace(ROUNDED, ulps=0.4),), math.inf)
    assert "changes 1 of 4 answers" in rounding_in_words((replace(ROUNDED, flips=1),), None)
    assert rounding_in_words((replace(ROUNDED, answers=0),), None).count("answer") == 0
    assert rounding_in_words((SAME, FAULT), 1e-7) == ""


def test_what_a_safe_model_has_to_be_told_stands_below_the_verdict() -> None:
    safe = about(SAME, CONVENTION, safe=True)
    assert conventions(safe.trials) == "padding on the left: pass position_ids (or it moves by 0.64 std)"
    assert render(safe, 100).splitlines()[1].strip() == conventions(safe.trials)
    assert conventions((SAME, FAULT)) == ""


def test_where_nothing_moved_a_sentence_says_it() -> None:
    text = render(about(SAME, replace(SAME, name="order", title="in another order"), UNTRIED, safe=True), 120)
    assert "The same bits beside other samples and in another order." in text
    assert "Not tried: packed with others (the model takes neither segments nor positions)." in text
    assert "what was changed" not in text


def test_eval_is_no_repair_of_padding() -> None:
    coupled = Finding("couples", "norm (BatchNorm1d)", "it normalises", "score in eval mode")
    both = replace(MIXED, findings=(coupled, *MIXED.findings), use=("model.eval()",))
    text = render(both, 100, is_verbose=True)
    assert "→ multiply by the mask" in text
    assert "→ score in eval mode" not in text
    assert re.search(r"^  or +score in eval mode$", text, re.MULTILINE)
    assert "what was changed, in eval mode" in text


def cells(text: str, label: str) -> list[str]:
    strip = text[text.index('<figure class="heat">') :]
    row = re.search(rf'<tr class="\w+"><th scope="row" class="size">{re.escape(label)}</th>(.*?)</tr>', strip)
    assert row is not None
    return re.findall(r"<td.*?</td>", row[1])


def test_the_strip_has_a_cell_for_each_module() -> None:
    text = page(MIXED)
    found = cells(text, "padding on the right")
    assert len(found) == len(LAYERS) + 1
    assert found[0] == '<td title="encoder.layer.0.attention (Linear): the same"></td>'
    assert found[-1] == '<td style="--g:1.00" title="encoder.pooler (Pooler): 1.1"></td>'
    assert (
        cells(text, "alone, not in a batch")[-1]
        == '<td class="none" title="encoder.pooler (Pooler): not compared"></td>'
    )
    assert "<script" not in text
    assert "beside other samples" not in text[text.index('<figure class="heat">') : text.index("</figure>")]


def test_layers_are_numbered_above_the_strip() -> None:
    headings = re.findall(r'<th scope="colgroup" colspan="(\d+)">(.*?)</th>', page(MIXED))
    assert headings[:2] == [("48", "encoder.layer"), ("1", "encoder.pooler")]
    assert headings[2:] == [*(("2", str(layer)) for layer in range(24)), ("1", "")]


def test_a_strip_of_200_modules_stays_small() -> None:
    names = [f"blocks.{layer}.{part}" for layer in range(25) for part in "abcdefgh"]
    wide = replace(FAULT, modules=tuple(ModuleGap(name, "Block", 0.1) for name in names))
    assert len(page(about(*[wide] * 10))) < 300_000


def test_cells_are_darker_by_decades() -> None:
    strip = heat_strip(MIXED.trials)
    assert strip is not None
    depths = [strip.depth(size) for size in (0.0, 1e-16, 1e-9, 1e-6, 1e-3, 1.0, 1e9, math.nan)]
    assert depths[:2] == [0.0, 0.0]
    assert depths[2:6] == pytest.approx([0.15, 0.15 + 0.85 / 3, 0.15 + 1.7 / 3, 1.0])
    assert depths[6:] == [1.0, 0.0]
    assert heat_strip((SAME, UNTRIED, CONVENTION)) is None


def test_a_picture_has_the_strip_too() -> None:
    strip = heat_strip(MIXED.trials)
    assert strip is not None
    shapes = list(heat_layout(strip))
    deep = [shape for shape in shapes if isinstance(shape, Stroke) and shape.ink == "bad"]
    assert [shape.opacity for shape in deep] == [1.0]
    assert len([s for s in shapes if isinstance(s, Stroke) and s.ink == "measured"]) == len(LAYERS)
    right = max(x for shape in shapes if isinstance(shape, Stroke) for x, _ in shape.points)
    low = max(y for shape in shapes if isinstance(shape, Stroke) for _, y in shape.points)
    assert right <= WIDTH + 1e-6
    assert low < heat_height(strip)
    assert len(poster(document_of(MIXED)).shapes) > len(shapes)


def test_what_comes_from_the_model_is_escaped() -> None:
    evil = "<script>alert(1)</script>&\"'"
    odd = replace(FAULT, title=evil, module=evil, modules=(ModuleGap(evil, evil, 1.0), ModuleGap("b", "B", 1.0)))
    text = page(about(odd, replace(UNTRIED, note=evil)))
    assert "<script" not in text
    assert unescape(text).count(evil) >= 5


class Mean(nn.Module):
    """A mean over positions that takes a mask and does not use it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.tokens(input_ids).mean(1))


def test_the_report_on_a_real_model() -> None:
    mask = (torch.arange(9) < torch.tensor([9, 5, 7, 9])[:, None]).long()
    told: list[tuple[str, int, int]] = []
    found = explain(
        Mean().eval(), {"input_ids": torch.randint(1, 50, (4, 9)) * mask, "attention_mask": mask},
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert "padding on the left" in [text for text, _, _ in told], "each trial is told as it begins"
    assert all(done < total for _, done, total in told)
    text = " ".join(render(found, 100).split())
    assert text.startswith("✗ Mean depends on padding: a sample's output moves by ")
    assert re.search(r"padding on the right fault [\d.]+ std", text)
    assert "it takes a mean over all positions, those of padding too" in text
    strip = document_of(found).heat
    assert strip is not None
    assert strip.columns[0] == "tokens"
    right = next(row for row in strip.rows if row.label == "padding on the right")
    assert right.cells[0] == 0
    assert (right.cells[-1] or 0) > 0.01
