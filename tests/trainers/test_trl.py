"""TRL: losses that are right pass, in each of its trainers; those that count each micro-batch by itself are named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

trl = pytest.importorskip("trl")
transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")
tokenizers = pytest.importorskip("tokenizers")

from tests.model_state import changed, held_by  # noqa: E402

from batchproof import BatchproofError  # noqa: E402
from batchproof.trainers import trl as driver  # noqa: E402

pytestmark = [
    # of the packages themselves, and none of our business
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
#: The first words are those that a tokenizer needs.
WORDS = ["<pad>", "<eos>", "<unk>", *(f"w{number}" for number in range(29))]
SMALL = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
TWO_TERMS = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0]}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    datasets.disable_progress_bars()


def tokenizer() -> Any:
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def language_model() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))


def text(words: int) -> str:
    return " ".join(f"w{int(number)}" for number in torch.randint(29, (words,)))


def trainer_of(name: str, rows: list[dict[str, Any]], path: Path, kind: Any = None, **options: Any) -> Any:
    model = options.pop("model", None) or language_model()
    given: dict[str, Any] = {"per_device_train_batch_size": 2, **options}
    args = getattr(trl, f"{name}Config")(
        str(path), report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, **given
    )
    beside: dict[str, Any] = {"ref_model": language_model()} if name in ("DPO", "KTO") else {}
    if name in ("GRPO", "RLOO"):
        beside["reward_funcs"] = reward
    return (kind or getattr(trl, f"{name}Trainer"))(
        model, args=args, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer(), **beside
    )


def sft(path: Path, kind: Any = None, **options: Any) -> Any:
    return trainer_of("SFT", [{"text": text(4 + index // 2 % 5)} for index in range(20)], path, kind, **options)


def preferences(name: str, path: Path, **options: Any) -> Any:
    rows = [
        {"prompt": text(3), "chosen": " " + text(2 + index // 2 % 5), "rejected": " " + text(3)} for index in range(12)
    ]
    return trainer_of(name, rows, path, **options)


def reward(completions: list[str], **_: Any) -> list[float]:
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


def rollouts(name: str, path: Path, **options: Any) -> Any:
    rows = [{"prompt": text(2 + index % 3)} for index in range(12)]
    given = {"gradient_accumulation_steps": 4, "num_generations": 2, "max_completion_length": 8, "beta": 0.0}
    return trainer_of(name, rows, path, **{**given, **options})


def codes(found: Any) -> list[str]:
    return [finding.code for finding in found.findings]


@pytest.mark.parametrize("options", [{}, {"loss_type": "dft"}, {"packing": True, "max_length": 16}], ids=str)
def test_supervised(options: dict[str, Any], tmp_path: Path) -> None:
    found = driver.check(sft(tmp_path, **options))
    assert found.ok, str(found)
    assert found.windows[0].passes == 4 and found.windows[-1].passes < 4
    assert f"SFTTrainer of trl {trl.__version__}" in found.ran


class Forgets(trl.SFTTrainer):  # type: ignore[misc]
    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return super().compute_loss(model, inputs, return_outputs)


def test_a_supervised_trainer_that_does_not_divide(tmp_path: Path) -> None:
    found = driver.check(sft(tmp_path, Forgets))
    assert codes(found) == ["missing-division", "mean-of-means"]
    assert found.weights is not None and "shifted labels" in found.weights.fits


@pytest.mark.parametrize("name", ["DPO", "Reward"])
def test_preferences(name: str, tmp_path: Path) -> None:
    if name == "Reward":
        config = transformers.LlamaConfig(**SMALL, num_labels=1)
        trainer = preferences(name, tmp_path, model=transformers.LlamaForSequenceClassification(config))
    else:
        trainer = preferences(name, tmp_path)
    found = driver.check(trainer)
    assert found.ok, str(found)
    assert [window.passes for window in found.windows] == [4, 2]


@pytest.mark.parametrize(("loss", "causes"), [("kto", ["coupled"]), ("apo_zero_unpaired", [])])
def test_a_baseline_that_is_a_mean_over_the_micro_batch(loss: str, causes: list[str], tmp_path: Path) -> None:
    rows = [
        {"prompt": text(3), "completion": " " + text(2 + index % 5), "label": bool(index % 2)} for index in range(16)
    ]
    assert codes(driver.check(trainer_of("KTO", rows, tmp_path, loss_type=loss))) == causes


def test_pairs_and_tokens_of_the_chosen_have_denominators_of_their_own(tmp_path: Path) -> None:
    found = driver.check(preferences("DPO", tmp_path, **TWO_TERMS))
    assert codes(found) == ["two-denominators"]
    assert "right weighted by chosen tokens" in found.findings[0].what


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo"])
def test_rollouts(loss: str, tmp_path: Path) -> None:
    found = driver.check(rollouts("GRPO", tmp_path, loss_type=loss))
    assert found.ok, str(found)
    assert [window.passes for window in found.windows] == [4, 4, 4]
    assert all(window.full > 0 for window in found.windows)


def test_a_mean_over_the_tokens_of_each_micro_batch(tmp_path: Path) -> None:
    found = driver.check(rollouts("GRPO", tmp_path, loss_type="bnpo"), windows=1)
    assert codes(found) == ["mean-of-means"]
    assert found.weights is not None and found.weights.fits == ("completion tokens",)


def test_a_bonus_that_is_a_mean_of_each_micro_batch(tmp_path: Path) -> None:
    found = driver.check(rollouts("GRPO", tmp_path, loss_type="dapo", entropy_coef=0.1), windows=1)
    assert codes(found) == ["two-denominators"]


def test_leave_one_out(tmp_path: Path) -> None:
    found = driver.check(rollouts("RLOO", tmp_path), windows=1)
    assert found.ok, str(found)


def test_what_else_to_count(tmp_path: Path) -> None:
    found = driver.check(
        rollouts("GRPO", tmp_path, loss_type="bnpo"), windows=1,
        count=lambda batch: {"good": float((batch["advantages"] > 0).sum() + 1)},
    )  # fmt: skip
    assert found.weights is not None and "good" in found.weights.counts


@pytest.mark.parametrize("name", ["GRPO", "SFT"])
def test_the_trainer_is_left_as_it_was(name: str, tmp_path: Path) -> None:
    trainer = rollouts(name, tmp_path, max_steps=1) if name == "GRPO" else sft(tmp_path, max_steps=1)
    trainer.model.eval()
    before, state = held_by(trainer.model), torch.get_rng_state()
    kept, metrics = dict(vars(trainer)), copy.deepcopy(trainer._metrics)
    assert driver.check(trainer, windows=1).ok
    assert changed(before, held_by(trainer.model)) == set()
    assert not trainer.model.training
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert vars(trainer) == kept and trainer._metrics == metrics
    assert trainer.train().global_step == 1


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchproofError, match=r"a transformers\.Trainer or makes one, not int"):
        driver.check(3)
    args = transformers.TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    plain = transformers.Trainer(language_model(), args, train_dataset=[{"input_ids": [1], "labels": [1]}])
    with pytest.raises(BatchproofError, match="one of TRL's, not Trainer"):
        driver.check(plain)
    trainer = rollouts("GRPO", tmp_path)
    trainer.args.per_device_train_batch_size = 1
    with pytest.raises(BatchproofError, match="whole groups of 2 completions"):
        driver.check(trainer, accumulation_steps=3)
    with pytest.raises(BatchproofError, match="has 12 prompts, and one optimizer step takes 50"):
        driver.check(trainer, accumulation_steps=100)
    with pytest.raises(BatchproofError, match="windows is a whole number from 1 on"):
        driver.check(trainer, windows=0)
