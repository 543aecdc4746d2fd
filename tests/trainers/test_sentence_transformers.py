"""sentence-transformers by the driver of Hugging Face Trainer: it asks the collator things, and draws its batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

sentence_transformers = pytest.importorskip("sentence_transformers")
losses = pytest.importorskip("sentence_transformers.losses")
datasets = pytest.importorskip("datasets")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

from test_trl import SMALL, text, tokenizer  # noqa: E402

from batchproof.trainers import hugging_face  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize(
    ("loss", "causes"), [("CosineSimilarityLoss", []), ("MultipleNegativesRankingLoss", ["coupled"])]
)
def test_a_loss_of_pairs_and_one_that_takes_the_others_as_negatives(
    loss: str, causes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = {name: value for name, value in SMALL.items() if name != "eos_token_id"}
    transformers.BertModel(transformers.BertConfig(**config)).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    rows: list[dict[str, Any]] = [{"one": text(4), "other": text(3 + index // 2 % 4)} for index in range(12)]
    if not causes:
        rows = [{**row, "score": float(index % 2)} for index, row in enumerate(rows)]
    args = sentence_transformers.SentenceTransformerTrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, report_to=[], use_cpu=True
    )
    trainer = sentence_transformers.SentenceTransformerTrainer(
        model=model, args=args, train_dataset=datasets.Dataset.from_list(rows),
        loss=getattr(losses, loss)(model),
    )  # fmt: skip
    found = hugging_face.check(trainer, accumulation_steps=4)
    assert [finding.code for finding in found.findings] == causes, str(found)
    assert [window.passes for window in found.windows] == [4, 2]
