"""The page of well-known metrics says what is measured, and its line of code gives the value on all samples."""

from pathlib import Path

import pytest
import torch

import batchproof
import gallery

PAGE = (Path(gallery.__file__).parent / "well-known-metrics.md").read_text(encoding="utf-8")
ENTRIES = [(data, entry) for data, (_, entries) in gallery.GALLERY.items() for entry in entries]


@pytest.mark.parametrize(("data", "entry"), ENTRIES, ids=[entry.metric.__name__ for _, entry in ENTRIES])
def test_the_page_has(data, entry):
    told = f"{gallery.row(data, entry)}\n", f"\n{gallery.section(data, entry)}\n"
    assert [part for part in told if part not in PAGE] == [], "make refresh"


@pytest.mark.parametrize(("data", "entry"), ENTRIES, ids=[entry.metric.__name__ for _, entry in ENTRIES])
def test_the_line_of_code_is_exact(data, entry):
    inputs = gallery.samples(data)
    metric = batchproof.exact(entry.metric)
    for batch in gallery.batches(inputs, 100):
        metric.update(*batch)
    torch.testing.assert_close(metric.compute(), entry.metric(*inputs), rtol=1e-5, atol=0)


def test_the_page_has_nothing_else():
    assert PAGE.startswith(gallery.OPENING)
    assert PAGE.count("\n### ") == len(ENTRIES)
