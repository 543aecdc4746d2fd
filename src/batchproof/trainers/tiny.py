"""Small models and data, made from settings alone: what the matrix of trainers trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

IGNORED, LENGTH, CLASSES = -100, 8, 3
#: The first words are those that a tokenizer needs.
WORDS = ("<pad>", "<eos>", "<unk>", *(f"w{number}" for number in range(29)))
_SIZES = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True)
class EpochSetting:
    """How an epoch is cut.

    Attributes:
        name: In a table.
        micro_batch: Samples in a micro-batch.
        steps: Micro-batches for one optimizer step.
        is_padded: Whether micro-batches hold different numbers of labels.
        is_short: Whether the last optimizer step has half the micro-batches.
    """

    name: str
    micro_batch: int = 2
    steps: int = 4
    is_padded: bool = False
    is_short: bool = False

    @property
    def samples(self) -> int:
        """In the epoch: two optimizer steps, or one and a half."""
        window = self.micro_batch * self.steps
        return window + window // 2 if self.is_short else 2 * window

    def length(self, sample: int) -> int:
        """How many of a sample's tokens there are."""
        return 3 + sample // self.micro_batch % 5 if self.is_padded else LENGTH


def sequences(setting: EpochSetting, labels: str = "tokens") -> list[dict[str, Any]]:
    """Tokens and their labels: the tokens themselves, a class of each (``classes``), or one of all (``class``)."""
    made = []
    for sample in range(setting.samples):
        ids, mask = torch.randint(3, len(WORDS), (LENGTH,)), torch.arange(LENGTH) < setting.length(sample)
        of_each = (ids if labels == "tokens" else ids % CLASSES).where(mask, IGNORED)
        label = sample % CLASSES if labels == "class" else of_each
        made.append({"input_ids": ids.where(mask, 0), "attention_mask": mask.long(), "labels": label})
    return made


def text(words: int) -> str:
    """So many words that the tokenizer knows."""
    return " ".join(f"w{int(number)}" for number in torch.randint(29, (words,)))


def texts(setting: EpochSetting) -> list[dict[str, Any]]:
    """A text for each sample."""
    return [{"text": text(setting.length(sample))} for sample in range(setting.samples)]


def preferences(setting: EpochSetting) -> list[dict[str, Any]]:
    """A prompt with a better and a worse completion for each sample."""
    return [
        {"prompt": text(3), "chosen": f" {text(setting.length(sample))}", "rejected": f" {text(LENGTH)}"}
        for sample in range(setting.samples)
    ]


def judged(setting: EpochSetting) -> list[dict[str, Any]]:
    """A prompt with a completion that is good or bad for each sample."""
    return [
        {"prompt": text(3), "completion": f" {text(setting.length(sample))}", "label": bool(sample % 2)}
        for sample in range(setting.samples)
    ]


def prompts(setting: EpochSetting) -> list[dict[str, Any]]:
    """Prompts alone."""
    return [{"prompt": text(3)} for _ in range(setting.samples)]


def reward(completions: list[str], **_: Any) -> list[float]:
    """A number for each completion, which differs between most."""
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


def language_model() -> Any:
    """A causal one."""
    import transformers

    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SIZES, eos_token_id=1))


def scorer() -> Any:
    """A number for each text."""
    import transformers

    return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**_SIZES, num_labels=1))


def encoder(task: str) -> Any:
    """A BERT with the head of a task, such as ``TokenClassification``."""
    import transformers

    return getattr(transformers, f"BertFor{task}")(transformers.BertConfig(**_SIZES, num_labels=CLASSES))


def tokenizer() -> Any:
    """Of `WORDS`."""
    import tokenizers
    import transformers

    places = {word: place for place, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(places, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def trl_trainer(kind: str, rows: list[dict[str, Any]], folder: str, model: Any, **options: Any) -> Any:
    """A trainer of TRL, by the beginning of its name."""
    import datasets
    import trl

    settings = {"report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False, **options}
    # another one than is trained, as after some steps: where both say the same, terms that compare them are 0
    beside: dict[str, Any] = {"ref_model": language_model()} if kind in ("DPO", "KTO") else {}
    if kind in ("GRPO", "RLOO"):
        beside["reward_funcs"] = reward
    args = getattr(trl, f"{kind}Config")(folder, **settings)
    data = datasets.Dataset.from_list(rows)
    return getattr(trl, f"{kind}Trainer")(
        model, args=args, train_dataset=data, processing_class=tokenizer(), **beside
    )  # fmt: skip
