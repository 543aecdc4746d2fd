"""transformers.Trainer: models whose loss leaves out the division are found, and those that divide pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from tests.model_state import changed, held_by  # noqa: E402

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
    elif name.startswith("ResNet"):
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=3
        )
    elif name.startswith("Wav2Vec2"):
        config = transformers.Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
            conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2, classifier_proj_size=8, num_labels=3, layerdrop=0.5, mask_time_prob=0.5,
            mask_time_length=2,
        )  # fmt: skip
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


def trainer_of(model: Any, data: list[dict[str, Any]], path: Path, kind: Any = None, **options: Any) -> Any:
    args = transformers.TrainingArguments(
        str(path), per_device_train_batch_size=2, report_to=[], use_cpu=True, **options
    )
    return (kind or transformers.Trainer)(model, args, train_dataset=data)


def codes(found: Any) -> list[str]:
    return [finding.code for finding in found.findings]


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
    found = hugging_face.check(trainer_of(model_of(name), samples(kind, 12), tmp_path), accumulation_steps=4)
    assert [finding.code for finding in found.findings] == ["missing-division", "mean-of-means"]
    assert found.weights is not None and found.weights.fits == ("labels",)
    assert 3 < found.windows[0].ratio < 5


def test_a_trainer_that_divides_a_token_mean_is_a_mean_of_means(tmp_path: Path) -> None:
    trainer = trainer_of(model_of("BertForMaskedLM"), samples("lm", 12), tmp_path)
    trainer.model_accepts_loss_kwargs = False
    found = hugging_face.check(trainer, accumulation_steps=4)
    assert [finding.code for finding in found.findings] == ["mean-of-means"]


def test_mixed_precision_has_the_tolerance_of_narrow_types(tmp_path: Path) -> None:
    found = hugging_face.check(trainer_of(model_of("LlamaForCausalLM"), samples("lm"), tmp_path, bf16=True))
    assert found.ok, str(found)
    assert found.tolerance == 2e-2 and found.windows[0].difference > 1e-4
    trainer = trainer_of(model_of("BertForSequenceClassification"), samples("class"), tmp_path, bf16=True)
    assert codes(hugging_face.check(trainer)) == ["missing-division"]
    assert hugging_face.check(trainer, tolerance=0.1).tolerance == 0.1


@pytest.mark.parametrize("option", ["bf16", "gradient_checkpointing"])
def test_the_model_is_left_as_it_was(option: str, tmp_path: Path) -> None:
    model = model_of("LlamaForCausalLM").eval()
    model.requires_grad_(True)
    ids = torch.arange(5, 13)[None]
    out = model(ids).logits
    trainer = trainer_of(model, samples("lm"), tmp_path, **{option: True})
    before = held_by(model)
    assert hugging_face.check(trainer).ok
    assert changed(before, held_by(model)) == set()
    assert not model.is_gradient_checkpointing and not model.training
    assert torch.equal(model(ids).logits, out)
    plain = hugging_face.check(trainer_of(model, samples("lm"), tmp_path))
    assert plain.ok and plain.windows[0].difference < 1e-6, str(plain)


def test_a_trainer_of_another_precision_and_an_accelerator_beside_it(tmp_path: Path) -> None:
    from accelerate import Accelerator

    trainer = trainer_of(model_of("LlamaForCausalLM"), samples("lm"), tmp_path)
    trainer_of(model_of("LlamaForCausalLM"), samples("lm"), tmp_path, bf16=True)
    own = Accelerator(gradient_accumulation_steps=7)
    found = hugging_face.check(trainer)
    assert found.ok and found.windows[0].difference < 1e-6, str(found)
    assert (own.gradient_accumulation_steps, own.mixed_precision) == (7, "bf16")


def test_batch_norm_hides_no_missing_division(tmp_path: Path) -> None:
    data = [{"pixel_values": torch.randn(3, 32, 32), "labels": index % 3} for index in range(12)]
    trainer = trainer_of(model_of("ResNetForImageClassification"), data, tmp_path)
    assert codes(hugging_face.check(trainer, accumulation_steps=4)) == ["missing-division", "batch-norm"]


def test_dropout_that_is_read_from_the_settings_is_off(tmp_path: Path) -> None:
    data = [{"input_values": torch.randn(400), "labels": index % 3} for index in range(12)]
    model = model_of("Wav2Vec2ForSequenceClassification")
    trainer = trainer_of(model, data, tmp_path)
    assert codes(hugging_face.check(trainer, accumulation_steps=4)) == ["missing-division"]
    assert (model.config.layerdrop, model.config.mask_time_prob) == (0.5, 0.5)


def test_a_micro_batch_without_labels(tmp_path: Path) -> None:
    data = samples("tokens")
    for index, sample in enumerate(data):
        sample["labels"] = sample["input_ids"] % 3 if index not in (2, 3) else torch.full((8,), -100)
    found = hugging_face.check(trainer_of(model_of("BertForTokenClassification"), data, tmp_path))
    assert codes(found) == ["missing-division", "empty-micro-batches"]
    assert [round(window.ratio, 4) for window in found.windows] == [3, 4, 2]
    assert "3 times the full one (at other optimizer steps 4 and 2)" in found.findings[0].what


def test_answers_outside_the_text_do_not_count(tmp_path: Path) -> None:
    data = []
    for index in range(12):
        start = 8 if index % 3 == 0 else index % 7  # 8: there is no answer
        ids = torch.randint(5, 32, (8,))
        data.append({"input_ids": ids, "start_positions": start, "end_positions": start})
    config = transformers.BertConfig(**SMALL)
    found = hugging_face.check(trainer_of(transformers.BertForQuestionAnswering(config), data, tmp_path))
    assert codes(found) == ["mean-of-means"]
    assert found.weights is not None and found.weights.fits == ("start positions", "end positions")


def forgets(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return cross_entropy(outputs.logits, labels)


class OwnLoss(transformers.Trainer):  # type: ignore[misc]
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        return cross_entropy(model(input_ids=inputs["input_ids"]).logits, inputs["labels"])


class Module(torch.nn.Module):
    accepts_loss_kwargs = True

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 3)

    def forward(self, input_ids: Any, labels: Any = None, num_items_in_batch: Any = None) -> Any:
        return {"loss": cross_entropy(self.layer(input_ids / 32), labels)}


@pytest.mark.parametrize(
    ("case", "says", "switch"),
    [
        ("function", "to compute_loss_func, and forgets does not divide", ("loss_is_scaled_for_ga", False)),
        ("subclass", "OwnLoss.compute_loss gives one that is not", ("loss_is_scaled_for_ga", False)),
        ("module", "the model has accepts_loss_kwargs = True", ("model_accepts_loss_kwargs", False)),
        ("model", "the model's forward takes **kwargs", ("model_accepts_loss_kwargs", False)),
    ],
)
def test_the_note_says_who_leaves_out_the_division(
    case: str, says: str, switch: tuple[str, bool], tmp_path: Path
) -> None:
    model = Module() if case == "module" else model_of("BertForSequenceClassification")
    trainer = trainer_of(model, samples("class"), tmp_path, OwnLoss if case == "subclass" else None)
    if case == "function":
        trainer.compute_loss_func = forgets
        trainer.model_accepts_loss_kwargs = False  # no remedy here
    found = hugging_face.check(trainer)
    assert codes(found) == ["missing-division"]
    (note,) = found.notes
    assert says in note
    assert f"{switch[0]} = {switch[1]}" in note
    setattr(trainer, *switch)
    assert hugging_face.check(trainer).ok


def test_no_note_where_the_trainer_divides(tmp_path: Path) -> None:
    class Multiplied(OwnLoss):
        loss_is_scaled_for_ga = False

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            steps = self.args.gradient_accumulation_steps
            return super().compute_loss(*args, **kwargs) * (
                self.current_gradient_accumulation_steps if steps > 1 else 1
            )

    trainer = trainer_of(model_of("BertForSequenceClassification"), samples("class"), tmp_path, Multiplied)
    found = hugging_face.check(trainer)
    assert codes(found) == ["missing-division"]
    assert found.notes == ()


def test_the_note_on_token_losses_says_what_remains(tmp_path: Path) -> None:
    found = hugging_face.check(trainer_of(model_of("BertForMaskedLM"), samples("lm", 12), tmp_path))
    assert len(found.notes) == 2
    assert "a mean of the micro-batches' means remains" in found.notes[1]


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


class Rollouts(transformers.Trainer):
    """Makes its batches itself and trains on a slice of each, as trainers of rollouts do."""

    def get_train_dataloader(self) -> Any:
        loader = torch.utils.data.DataLoader(self.train_dataset, batch_size=8, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        scores = model(input_ids=inputs["input_ids"][:2]).logits
        labels = inputs["labels"][:2].flatten()
        return cross_entropy(scores.flatten(0, 1), labels) / self.current_gradient_accumulation_steps


def test_a_trainer_that_makes_its_own_batches_is_not_compared(tmp_path: Path) -> None:
    trainer = trainer_of(model_of("BertForTokenClassification"), samples("tokens", 8), tmp_path, Rollouts)
    found = hugging_face.check(trainer, accumulation_steps=4)
    assert not found.ok and found.cause == "not-compared"
    assert "made 1 backward pass, not 4" in found.findings[0].what


class Kept(list[Any]):
    """A data set that can select, as those of ``datasets`` can."""

    def select(self, places: list[int]) -> Kept:
        return Kept(self[place] for place in places)


class Asking(transformers.Trainer):
    def get_train_dataloader(self) -> Any:
        if not isinstance(self.train_dataset, Kept):
            raise ValueError("unsupported train_dataset")
        return super().get_train_dataloader()


def test_a_trainer_that_asks_what_its_data_is(tmp_path: Path) -> None:
    trainer = trainer_of(model_of("BertForSequenceClassification"), Kept(samples("class", 8)), tmp_path, Asking)
    assert hugging_face.check(trainer, accumulation_steps=4).cause == "missing-division"
