"""Which trainers the matrix runs, each with a loss: a row of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from batchproof.gradients.check import GradientCheck
from batchproof.trainers import accelerate, hugging_face, lightning, loop, tiny, trl
from batchproof.trainers.tiny import EpochSetting


@dataclass(frozen=True)
class Case:
    """A trainer with a loss.

    Attributes:
        package: What it comes in, by the name that is installed; torch for a loop without a trainer.
        name: What is trained.
        check: Checks it in a setting; writes into a folder, if anywhere.
        has_short: Whether an epoch may end with fewer micro-batches.
        smallest: The smallest micro-batch that the trainer takes.
    """

    package: str
    name: str
    check: Callable[[EpochSetting, str], GradientCheck]
    has_short: bool = True
    smallest: int = 1


def _loss(model: Any, batch: Any) -> Any:
    return model(**batch).loss


def _loader(setting: EpochSetting) -> DataLoader[Any]:
    return DataLoader(tiny.sequences(setting), batch_size=setting.micro_batch)  # type: ignore[arg-type]


def _plain_loop(setting: EpochSetting, _: str) -> GradientCheck:
    return loop.check(tiny.language_model(), _loss, _loader(setting), setting.steps)


def _accelerate(setting: EpochSetting, _: str) -> GradientCheck:
    def train(accelerator: Any, model: Any, optimizer: Any, loader: Any) -> None:
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(_loss(model, batch))
                optimizer.step()
                optimizer.zero_grad()

    return accelerate.check(train, tiny.language_model(), _loader(setting), setting.steps)


def _lightning(setting: EpochSetting, _: str) -> GradientCheck:
    from lightning.pytorch import LightningModule

    # called in this way, it is a subclass whether there are types of lightning or not
    module = type(
        "Module", (LightningModule,), {"training_step": lambda self, batch, _: _loss(self.net, batch)}
    )()  # fmt: skip
    module.net = tiny.language_model()
    return lightning.check(module, _loader(setting), setting.steps)


def _hugging_face(model: Callable[[], Any], labels: str) -> Callable[[EpochSetting, str], GradientCheck]:
    def check(setting: EpochSetting, folder: str) -> GradientCheck:
        from transformers import Trainer, TrainingArguments

        args = TrainingArguments(
            folder, per_device_train_batch_size=setting.micro_batch, report_to=[], use_cpu=True
        )  # fmt: skip
        trainer = Trainer(model(), args, train_dataset=tiny.sequences(setting, labels))
        return hugging_face.check(trainer, setting.steps)

    return check


def _trl(
    kind: str, rows: Callable[[EpochSetting], list[dict[str, Any]]], **options: Any
) -> Callable[[EpochSetting, str], GradientCheck]:
    def check(setting: EpochSetting, folder: str) -> GradientCheck:
        model = tiny.scorer() if kind == "Reward" else tiny.language_model()
        given = {"per_device_train_batch_size": setting.micro_batch, **options}
        return trl.check(tiny.trl_trainer(kind, rows(setting), folder, model, **given), setting.steps)

    return check


def _rollouts(kind: str, **options: Any) -> Callable[[EpochSetting, str], GradientCheck]:
    def check(setting: EpochSetting, folder: str) -> GradientCheck:
        # where nothing is padded, no completion ends before the others
        least = {} if setting.is_padded else {"generation_kwargs": {"min_new_tokens": tiny.LENGTH}}
        given = {
            "gradient_accumulation_steps": setting.steps, "num_generations": 2, "max_completion_length": tiny.LENGTH,
            "beta": 0.0, **least, **options,
        }  # fmt: skip
        return _trl(kind, tiny.prompts, **given)(setting, folder)

    return check


def _bert(task: str, labels: str) -> Case:
    return Case("transformers", f"Trainer, BertFor{task}", _hugging_face(lambda: tiny.encoder(task), labels))


CASES = (
    Case("torch", "a plain loop, loss / K, tokens", _plain_loop),
    Case("transformers", "Trainer, LlamaForCausalLM", _hugging_face(tiny.language_model, "tokens")),
    _bert("TokenClassification", "classes"),
    _bert("SequenceClassification", "class"),
    Case("accelerate", "accumulate(model), tokens", _accelerate),
    Case("lightning", "Trainer, tokens", _lightning),
    Case("trl", "SFT", _trl("SFT", tiny.texts)),
    Case("trl", "DPO, sigmoid", _trl("DPO", tiny.preferences)),
    Case(
        "trl", "DPO, sigmoid + sft",
        _trl("DPO", tiny.preferences, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0]),
    ),
    Case("trl", "KTO, kto", _trl("KTO", tiny.judged), smallest=2),
    Case("trl", "KTO, apo_zero_unpaired", _trl("KTO", tiny.judged, loss_type="apo_zero_unpaired")),
    Case("trl", "Reward", _trl("Reward", tiny.preferences)),
    *(
        Case("trl", f"GRPO, {loss}", _rollouts("GRPO", loss_type=loss), has_short=False)
        for loss in ("grpo", "bnpo", "dr_grpo", "dapo")
    ),
    Case("trl", "GRPO, dapo + entropy", _rollouts("GRPO", loss_type="dapo", entropy_coef=0.1), has_short=False),
    Case("trl", "RLOO", _rollouts("RLOO"), has_short=False),
)  # fmt: skip


def named(words: str) -> Iterator[Case]:
    """The cases whose package and name have this text in them."""
    return (case for case in CASES if words.casefold() in f"{case.package}: {case.name}".casefold())
