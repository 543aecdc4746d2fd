"""The examples of real trainers in the page and in the docstrings run: elsewhere, without the packages, they do not."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

transformers = pytest.importorskip("transformers")
lightning = pytest.importorskip("lightning.pytorch")
datasets = pytest.importorskip("datasets")
pytest.importorskip("accelerate")
pytest.importorskip("trl")

from test_trl import language_model, reward, text, tokenizer  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "check-gradients.md"
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Module(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def given(name: str) -> dict[str, Any]:
    """What the examples take for granted: small models and data."""
    loader = DataLoader(TensorDataset(torch.randn(12, 3), torch.randn(12, 1)), batch_size=2)
    if name == "trl":
        data = datasets.Dataset.from_list([{"prompt": text(3)} for _ in range(12)])
        return {"model": language_model(), "reward": reward, "data": data, "tokenizer": tokenizer()}
    if name != "hugging_face":
        return {"loader": loader, "model": Module() if name == "lightning" else torch.nn.Linear(3, 1)}
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    data = [{"input_ids": torch.randint(5, 32, (8,)), "labels": index % 2} for index in range(20)]
    return {"model": transformers.BertForSequenceClassification(config), "data": data}


@pytest.mark.parametrize("name", ["hugging_face", "trl", "accelerate", "lightning"])
def test_docstring_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check = importlib.import_module(f"batchproof.trainers.{name}").check
    examples = re.sub(r" *# doctest: \+SKIP", "", check.__doc__)
    test = doctest.DocTestParser().get_doctest(examples, given(name), name, None, 0)
    assert test.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


@pytest.mark.parametrize("name", ["hugging_face", "trl", "accelerate", "lightning"])
def test_block_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    chosen = [block for block in blocks if f"trainers import {name}" in block]
    assert len(chosen) == 1
    exec(compile(chosen[0], str(PAGE), "exec"), {**given(name), "__name__": name})
