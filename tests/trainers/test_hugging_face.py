"""transformers.Trainer: models whose loss leaves out the division are found, and those that divide pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from batchproof import BatchproofError  # noqa: E402
from batchproof.trainers import hugging_face  # noqa: E402

pytestmark = [
    # of the packages themselves, and none of our business
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:(accelerate|transformers|torch).*"),
]

SMALL = {
    "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 16,
}  # fmt: skip


def model_of(name: str) -> Any:
    if name.startswith("GPT2"):
        config = transformers.GPT2Config(
            vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=1
        )
    elif name.startswith("T5"):
        config = transformers.T5Config(
            vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    elif name.startswith("Llama"):
        config = transformers.LlamaConfig(**SMALL)
    else:
        config = transformers.BertConfig(**SMALL, num_labels=3, is_decoder=name == "BertLMHeadModel")
    return getattr(transformers, name)(config)


def samples(kind: str, count: int = 20) -> list[dict[str, Any]]:
    """Sequences of equal length; the labels of each are ignored from some position on."""
    made = []
    for index in range(count):
        ids = torch.randint(5, 32, (8,))
        labels = ids % 3 if kind == "tokens" else ids.clone()
        labels[2 + index % 6 :] = -100
        made.append({"input_ids": ids, "labels": index % 3 if kind == "class" else labels})
    return made


def trainer_of(model: Any, data: list[dict[str, Any]], path: Path, **options: Any) -> Any:
    args = transformers.TrainingArguments(
        str(path), per_device_train_batch_size=2, report_to=[], use_cpu=True, **options
    )
    return transformers.Trainer(model, args, train_dataset=data)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "BertLMHeadModel"])
def test_models_that_divide_by_the_number_of_tokens_pass(name: str, tmp_path: Path) -> None:
    found = hugging_face.check(trainer_of(model_of(name), samples("lm"), tmp_path))
    assert found.ok, str(found)
    assert [window.passes for window in found.windows] == [4, 4, 2]


def test_a_classifier_is_not_divided_at_all(tmp_path: Path) -> None:
    trainer = trainer_of(model_of("BertForSequenceClassification"), samples("class"), tmp_path)
    found = hugging_face.check(trainer, accumulation_steps=4)
    assert found.cause == "missing-division"
    assert [round(window.ratio, 4) for window in found.windows] == [4, 4, 2]
    assert all(window.cosine > 1 - 1e-6 for window in found.windows)
    assert any("model_accepts_loss_kwargs = False" in note for note in found.notes)

    trainer.model_accepts_loss_kwargs = False  # the remedy
    assert hugging_face.check(trainer, accumulation_steps=4).ok


@pytest.mark.parametrize(
    ("name", "kind"),
    [("BertForMaskedLM", "lm"), ("BertForTokenClassification", "tokens"), ("T5ForConditionalGeneration", "lm")],
)
def test_token_means_are_not_divided_and_are_means_of_means(name: str, kind: str, tmp_path: Path) -> None:
    found = hugging_face.check(trainer_of(model_of(name), samples(kind), tmp_path), accumulation_steps=4)
    assert [finding.code for finding in found.findings] == ["missing-division", "mean-of-means"]
    assert found.weights is not None and found.weights.fits == ("labels",)
    assert 3 < found.windows[0].ratio < 5


def test_a_trainer_that_divides_a_token_mean_is_a_mean_of_means(tmp_path: Path) -> None:
    trainer = trainer_of(model_of("BertForMaskedLM"), samples("lm"), tmp_path)
    trainer.model_accepts_loss_kwargs = False
    found = hugging_face.check(trainer, accumulation_steps=4)
    assert [finding.code for finding in found.findings] == ["mean-of-means"]


def test_the_trainer_is_left_as_it_was(tmp_path: Path) -> None:
    trainer = trainer_of(model_of("BertForSequenceClassification"), samples("class"), tmp_path / "out", max_steps=3)
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    kept, args, files = dict(vars(trainer)), trainer.args.to_dict(), sorted(tmp_path.rglob("*"))
    state = torch.get_rng_state()
    hugging_face.check(trainer)
    assert vars(trainer) == kept
    assert trainer.args.to_dict() == args
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(tmp_path.rglob("*")) == files
    assert trainer.train().global_step == 3


def test_a_function_that_makes_the_trainer_and_its_own_steps(tmp_path: Path) -> None:
    def make() -> Any:
        return trainer_of(model_of("LlamaForCausalLM"), samples("lm"), tmp_path, gradient_accumulation_steps=5)

    found = hugging_face.check(make)
    assert found.ok
    assert [window.passes for window in found.windows] == [5, 5]


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchproofError, match=r"a transformers\.Trainer or makes one, not int"):
        hugging_face.check(3)
    trainer = trainer_of(model_of("LlamaForCausalLM"), samples("lm"), tmp_path)
    trainer.train_dataset = None
    with pytest.raises(BatchproofError, match="no train_dataset"):
        hugging_face.check(trainer)
