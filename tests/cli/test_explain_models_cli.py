"""``batchproof explain`` of a model: from a module, a class or a factory, on a file of its arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commands import command as run
from commands import inside
from commands import refusal as fails

MODELS = """
import torch
from torch import nn

class Encoder(nn.Module):
    def __init__(self, masked=True):
        super().__init__()
        self.tokens, self.head, self.masked = nn.Embedding(50, 8), nn.Linear(8, 3), masked
    def forward(self, input_ids=None, attention_mask=None):
        x = self.tokens(input_ids)
        if not self.masked:
            return self.head(x.mean(1))
        w = attention_mask[..., None]
        return self.head((x * w).sum(1) / w.sum(1))

def make_encoder():
    torch.manual_seed(0)
    return Encoder(masked=False).eval()

def number():
    return 3

def broken():
    raise ValueError("no weights here")

def pooled(input_ids, attention_mask):
    return (input_ids * attention_mask).float().mean(1, keepdim=True)

module = make_encoder()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    torch.manual_seed(0)
    mask = (torch.arange(9) < torch.tensor([9, 5, 7, 9])[:, None]).long()
    batch = {"input_ids": torch.randint(1, 50, (4, 9)) * mask, "attention_mask": mask}
    with inside(tmp_path, monkeypatch, {"models.py": MODELS}, columns=100) as folder:
        torch.save(batch, folder / "batch.pt")
        np.savez(folder / "batch.npz", **{name: value.numpy() for name, value in batch.items()})
        yield folder


def data(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    status, out, _ = run(capsys, "explain", *args, "--json")
    return status, json.loads(out)


@pytest.mark.parametrize("target", ["models.py:make_encoder", "models:module", "models.py:make_encoder()"])
@pytest.mark.parametrize("file", ["batch.pt", "batch.npz"])
def test_what_names_a_model(target: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "explain", target, "--data", file)
    assert (status, err) == (1, "")
    assert out.startswith("✗ Encoder depends on padding: a sample's output moves by ")
    assert "padding on the right" in out


def test_a_class_and_a_function_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert data(capsys, "models.py:Encoder", "--data", "batch.pt")[0] == 0
    status, found = data(capsys, "models.py:pooled", "--data", "batch.pt", "--over", "padding")
    assert (status, found["kind"], found["verdict"]) == (1, "model", "padding")


def test_optional_arguments_come_from_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = data(capsys, "models.py:Encoder", "--data", "batch.pt")
    assert [given["name"] for given in found["inputs"]] == ["input_ids", "attention_mask"]


def test_over_is_what_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["models.py:make_encoder", "--data", "batch.pt", "--over"]
    status, found = data(capsys, *args, "order")
    assert (status, [trial["name"] for trial in found["trials"] if trial["name"] != "repeat"]) == (0, ["order"])
    status, found = data(capsys, *args, "batch, padding")
    names = {trial["name"] for trial in found["trials"]}
    assert status == 1
    assert {"alone", "neighbours", "padding right", "padding left"} <= names
    assert "order" not in names
    assert fails(capsys, "explain", *args, "wind").startswith("over=['wind']: expected some of 'batch', ")


def test_a_factory_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "explain", "models.py:number").startswith("number takes no batch, and gives no model: ")
    assert fails(capsys, "explain", "models.py:broken").startswith("broken() raised ValueError: no weights here")


def test_a_page_with_the_strip(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run(capsys, "explain", "models.py:make_encoder", "--data", "batch.pt", "--html", "report.html")
    assert '<figure class="heat">' in (folder / "report.html").read_text(encoding="utf-8")


def test_help_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    out = " ".join(run(capsys, "explain", "--help")[1].split())
    assert "--over WHAT,..." in out
    assert "batchproof explain encoder.py:make_encoder --data batch.pt --over batch,padding" in out
