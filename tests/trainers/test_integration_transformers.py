"""The Trainer's metrics and eval_loss on the whole evaluation set: at any batch size, over ranks, of any loss."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.nn.functional import cross_entropy

pytest.importorskip("transformers")

import transformers
from torch.utils.data import IterableDataset

import batchproof as bp
from batchproof.integrations.transformers import ExactEvalLoss, compute_metrics
from batchproof.trainers import tiny
from ranks import as_torchrun, spawned

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:(accelerate|torch|transformers).*"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SAMPLES, LENGTH, WORDS, CLASSES = 19, 10, 32, 3
ARGUMENTS = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
METRICS = "`compute_metrics`: any function, with `batch_eval_metrics` and no logits kept"
EVAL_LOSS = "`ExactEvalLoss`: the loss of the evaluation set beside `eval_loss`"


def rows(labels: str, samples: int = SAMPLES) -> list[dict[str, Any]]:
    """Samples with 3 to 9 tokens, the longest last."""
    torch.manual_seed(3)
    made = []
    for sample in range(samples):
        n = 3 + sample * 6 // max(1, samples - 1)
        ids, mask = torch.randint(3, WORDS, (LENGTH,)), torch.arange(LENGTH) < n
        of_each = (ids if labels == "tokens" else ids % CLASSES).where(mask, -100)
        label: Any = {"class": sample % CLASSES, "value": float(sample)}.get(labels, of_each)
        made.append({"input_ids": ids.where(mask, 0), "attention_mask": mask.long(), "labels": label})
    return made


def model(kind: str) -> Any:
    torch.manual_seed(5)
    made = tiny.language_model() if kind == "causal" else tiny.encoder(kind)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made


def trainer(kind: str, data: Any, folder: Any, batch: int, *callbacks: Any, **options: Any) -> Any:
    settings = {name: options.pop(name) for name in list(options) if name in ARGUMENTS}
    base = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "per_device_eval_batch_size": batch}
    args = transformers.TrainingArguments(str(folder), **{**base, **settings})
    made = options.pop("trainer_class", transformers.Trainer)
    net = options.pop("model", None) or model(kind)
    return made(net, args, eval_dataset=data, callbacks=list(callbacks), **options)


def batch_of(data: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return transformers.default_data_collator(data)


def logits_of(kind: str, data: list[dict[str, Any]]) -> torch.Tensor:
    with torch.no_grad():
        inputs = batch_of(data)
        del inputs["labels"]
        return model(kind).eval()(**inputs).logits


# ------------------------------------------------------------------ compute_metrics


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(-1) == labels).float().mean()


def masked_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-100)


def perplexity(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, labels).exp()


def recall(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    hit = torch.stack([((logits.argmax(-1) == c) & (labels == c)).sum() / (labels == c).sum() for c in range(CLASSES)])
    return {f"recall_{c}": value for c, value in enumerate(hit)} | {"macro": hit.mean()}


@pytest.mark.integration("transformers", METRICS)
@pytest.mark.parametrize("in_batches", [True, False])
@pytest.mark.parametrize("batch", [1, 4, 19])
def test_metrics_of_tokens(batch, in_batches, tmp_path):
    data = rows("classes")
    metrics = compute_metrics(
        {"recall": recall, "perplexity": perplexity, "right": accuracy}, each="token", state="constant"
    )
    made = trainer("TokenClassification", data, tmp_path, batch, compute_metrics=metrics, batch_eval_metrics=in_batches)
    labels = batch_of(data)["labels"]
    logits, labels = logits_of("TokenClassification", data)[labels != -100], labels[labels != -100]
    expected = {**recall(logits, labels), "perplexity": perplexity(logits, labels), "right": accuracy(logits, labels)}
    for _ in range(2):
        found = made.evaluate()
        for name, value in expected.items():
            assert found[f"eval_{name}"] == pytest.approx(float(value), rel=1e-5), name
        assert isinstance(found["eval_macro"], float)


@pytest.mark.parametrize("in_batches", [True, False])
@pytest.mark.parametrize("each", ["sample", "next token"])
def test_metrics_of_a_causal_model(each, in_batches, tmp_path):
    data = rows("tokens")
    functions = {"next token": {"loss2": cross_entropy, "right": accuracy}, "sample": {"loss2": masked_loss}}[each]
    options = {"compute_metrics": compute_metrics(functions, each=each), "batch_eval_metrics": in_batches}
    found = trainer("causal", data, tmp_path, 4, **options).evaluate()
    logits, labels = logits_of("causal", data), batch_of(data)["labels"]
    if each == "next token":
        logits, labels = logits[:, :-1], labels[:, 1:]
    assert found["eval_loss2"] == pytest.approx(float(masked_loss(logits, labels)), rel=1e-5)


def test_logits_are_not_kept(tmp_path):
    metrics = compute_metrics(perplexity, each="next token", state="constant", warmup=4)
    held = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_prediction_step(self, *_: Any, **__: Any) -> None:
            stream = metrics.metrics["perplexity"]._stream
            held.append((len(stream.rows), metrics.metrics["perplexity"].n_samples))

    trainer("causal", rows("tokens"), tmp_path, 4, Watch(), compute_metrics=metrics, batch_eval_metrics=True).evaluate()
    assert [kept for kept, _ in held[1:]] == [0] * 4  # after the first batch, told before it is folded
    assert held[-1][1] > 50


def test_inputs_and_losses(tmp_path):
    def seen(logits: Any, labels: Any, inputs: Any, losses: Any) -> dict[str, Any]:
        return {"words": (inputs > 0).sum(), "same": losses.mean()}

    data = rows("class")
    options = {"include_for_metrics": ["inputs", "loss"], "batch_eval_metrics": True}
    found = trainer("SequenceClassification", data, tmp_path, 4, compute_metrics=compute_metrics(seen), **options)
    result = found.evaluate()
    assert result["eval_words"] == sum(int((row["input_ids"] > 0).sum()) for row in data)
    assert result["eval_same"] == pytest.approx(result["eval_loss"], rel=1e-6)
    plain = trainer("SequenceClassification", data, tmp_path, 4, compute_metrics=compute_metrics(accuracy), **options)
    expected = accuracy(logits_of("SequenceClassification", data), batch_of(data)["labels"])
    assert plain.evaluate()["eval_accuracy"] == pytest.approx(float(expected))


def test_tuples_of_labels_and_batches_left_apart(tmp_path):
    data = [
        {"input_ids": row["input_ids"], "start_positions": n % 3, "end_positions": 3 + n % 2}
        for n, row in enumerate(rows("class"))
    ]

    def both(logits: Any, labels: Any) -> torch.Tensor:
        return sum(cross_entropy(one, label) for one, label in zip(logits, labels, strict=True)) / 2  # type: ignore[no-any-return]

    net = transformers.BertForQuestionAnswering(transformers.BertConfig(**{**tiny._SIZES, "num_labels": 2}))
    for options in ({"batch_eval_metrics": True}, {"eval_do_concat_batches": False}, {}):
        metrics = compute_metrics({"both": both})
        options = {**options, "model": net}
        found = trainer("QuestionAnswering", data, tmp_path, 19, compute_metrics=metrics, **options).evaluate()
        smaller = trainer("QuestionAnswering", data, tmp_path, 4, compute_metrics=metrics, **options).evaluate()
        assert found["eval_both"] == pytest.approx(found["eval_loss"], rel=1e-5)
        assert smaller["eval_both"] == pytest.approx(found["eval_both"], rel=1e-5)


def test_an_evaluation_that_was_interrupted(tmp_path):
    class Interrupt(transformers.TrainerCallback):  # type: ignore[misc]
        armed = True

        def on_prediction_step(self, *_: Any, **__: Any) -> None:
            self.steps = getattr(self, "steps", 0) + 1
            if self.armed and self.steps == 3:
                raise KeyboardInterrupt

    interrupt, data = Interrupt(), rows("class")
    options = {"compute_metrics": compute_metrics(accuracy), "batch_eval_metrics": True}
    made = trainer("SequenceClassification", data, tmp_path, 4, interrupt, **options)
    with pytest.raises(KeyboardInterrupt):
        made.evaluate()
    interrupt.armed = False
    with pytest.raises(bp.BatchproofError, match="the evaluation set has 19 samples, and 27 came; if an ev"):
        made.evaluate()
    expected = accuracy(logits_of("SequenceClassification", data), batch_of(data)["labels"])
    assert made.evaluate()["eval_accuracy"] == pytest.approx(float(expected))


def test_options_that_are_refused():
    with pytest.raises(bp.BatchproofError, match="each='word': expected 'sample', 'token' or 'next token'"):
        compute_metrics(accuracy, each="word")  # type: ignore[arg-type]
    with pytest.raises(bp.BatchproofError, match="at least one function"):
        compute_metrics({})
    with pytest.raises(bp.BatchproofError, match="compute_metrics takes functions, not str"):
        compute_metrics("accuracy")  # type: ignore[arg-type]
    flat = transformers.EvalPrediction(numpy.ones((4, 3)), numpy.ones(4, dtype=int))
    with pytest.raises(bp.BatchproofError, match="takes one tensor of labels, of shape"):
        compute_metrics(accuracy, each="token")(flat)
    cut = transformers.EvalPrediction(numpy.ones((4, 3)), numpy.ones((4, 5), dtype=int))
    with pytest.raises(bp.BatchproofError, match=r"predictions of shape \(4, 3\) beside labels of shape \(4, 5\)"):
        compute_metrics(accuracy, each="token")(cut)


# ------------------------------------------------------------------ eval_loss


def shifted(kind: str, data: list[dict[str, Any]]) -> float:
    logits, labels = logits_of(kind, data), batch_of(data)["labels"]
    return float(masked_loss(logits[:, :-1], labels[:, 1:]))


def aligned(kind: str, data: list[dict[str, Any]]) -> float:
    logits, labels = logits_of(kind, data), batch_of(data)["labels"]
    return float(cross_entropy(logits.flatten(0, -2), labels.flatten()))


def smoothed(kind: str, data: list[dict[str, Any]]) -> float:
    logits, labels = logits_of(kind, data), batch_of(data)["labels"]
    smoother = transformers.trainer_pt_utils.LabelSmoother(epsilon=0.1)
    return float(smoother({"logits": logits}, labels, shift_labels=kind == "causal"))


def focal(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    each = cross_entropy(outputs.logits.flatten(0, -2), labels.flatten(), reduction="none")
    total = (each * (1 - (-each).exp())).sum()
    return total / (num_items_in_batch if num_items_in_batch is not None else (labels != -100).sum())


def must_be_told(outputs: Any, labels: Any, num_items_in_batch: Any) -> torch.Tensor:
    return cross_entropy(outputs.logits.flatten(0, -2), labels.flatten(), reduction="sum") / num_items_in_batch


def own_mean(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    return cross_entropy(outputs.logits.flatten(0, -2), labels.flatten())


def mean_of_samples(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    each = cross_entropy(outputs.logits.transpose(1, 2), labels, reduction="none")
    return (each.sum(1) / (labels != -100).sum(1)).mean()


def of_focal(kind: str, data: list[dict[str, Any]]) -> float:
    out = transformers.modeling_outputs.TokenClassifierOutput(logits=logits_of(kind, data))
    return float(focal(out, batch_of(data)["labels"]))


def of_samples(kind: str, data: list[dict[str, Any]]) -> float:
    out = transformers.modeling_outputs.TokenClassifierOutput(logits=logits_of(kind, data))
    return float(mean_of_samples(out, batch_of(data)["labels"]))


LOSSES: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "causal": ("causal", "tokens", {}, shifted),
    "causal, smoothed": ("causal", "tokens", {"label_smoothing_factor": 0.1}, smoothed),
    "tokens": ("TokenClassification", "classes", {}, aligned),
    "tokens, smoothed": ("TokenClassification", "classes", {"label_smoothing_factor": 0.1}, smoothed),
    "masked": ("MaskedLM", "tokens", {}, aligned),
    "class": ("SequenceClassification", "class", {}, aligned),
    "own function": ("TokenClassification", "classes", {"compute_loss_func": focal}, of_focal),
    "own function, told": ("TokenClassification", "classes", {"compute_loss_func": must_be_told}, aligned),
    "own function, a mean": ("TokenClassification", "classes", {"compute_loss_func": own_mean}, aligned),
    "own function, of samples": ("TokenClassification", "classes", {"compute_loss_func": mean_of_samples}, of_samples),
}


@pytest.mark.integration("transformers", EVAL_LOSS)
@pytest.mark.parametrize("name", LOSSES)
def test_eval_loss(name, tmp_path):
    kind, labels, options, expected = LOSSES[name]
    data, printed = rows(labels), []
    for batch in (2, 5, 19):
        made = trainer(kind, data, tmp_path, batch, callback := ExactEvalLoss(), **options)
        found = made.evaluate()
        assert found["eval_exact_loss"] == pytest.approx(expected(kind, data), rel=2e-6), (batch, str(callback.found))
        assert made.state.log_history[-1]["eval_exact_loss"] == found["eval_exact_loss"]
        assert found["eval_loss"] == trainer(kind, data, tmp_path, batch, **options).evaluate()["eval_loss"]
        printed.append(found["eval_loss"])
    if "sample" not in name and labels != "class":
        assert abs(printed[0] / printed[-1] - 1) > 1e-3  # what the callback is for


@pytest.mark.parametrize("name", ["causal", "tokens", "own function", "own function, a mean"])
@pytest.mark.parametrize("start", [0, 4, 15])
def test_batches_without_labels(name, start, tmp_path):
    """Of the first batch, one in the middle and the last: the mean over none is NaN, and no part of the exact loss."""
    kind, labels, options, expected = LOSSES[name]
    data = rows(labels)
    for row in data[start : start + 4]:
        row["labels"] = torch.full_like(row["labels"], -100)
    found = trainer(kind, data, tmp_path, 4, ExactEvalLoss(), **options).evaluate()
    assert found["eval_exact_loss"] == pytest.approx(expected(kind, data), rel=2e-6)


def test_next_tokens_are_told_from_all_labels(tmp_path):
    """In long samples a mean over the labels after the first is nearly one over all labels, in pieces too."""

    def after_the_first(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        return cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    data = rows("classes")
    made = trainer(
        "TokenClassification", data, tmp_path, 6, callback := ExactEvalLoss(), compute_loss_func=after_the_first
    )
    logits, labels = logits_of("TokenClassification", data), batch_of(data)["labels"]
    expected = float(masked_loss(logits[:, :-1], labels[:, 1:]))
    assert made.evaluate()["eval_exact_loss"] == pytest.approx(expected, rel=2e-6)
    assert callback.found is not None and callback.found.unit == "labels after the first"


def contrastive(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    z = outputs.logits.flatten(1)
    return cross_entropy(z @ z.T, torch.arange(len(z)))


def root(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    return own_mean(outputs, labels).sqrt()


def weighted(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    weight = torch.tensor([1.0, 5.0, 0.2])
    return cross_entropy(outputs.logits.flatten(0, -2), labels.flatten(), weight=weight)


def random(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    return own_mean(outputs, labels) * (1 + 0.1 * torch.rand(()))


def with_penalty(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    return must_be_told(outputs, labels, num_items_in_batch) + outputs.logits.std()


REFUSED = {
    contrastive: "the losses of a batch's pieces, weighted by .*, do not give the batch's: it is no mean",
    root: "the losses of a batch's pieces",
    weighted: "the losses of a batch's pieces",
    random: "computed again, the first batch's loss is .* is it random",
    with_penalty: "the loss divides a part of it by num_items_in_batch, and another part not",
}


@pytest.mark.parametrize("loss", REFUSED)
def test_a_loss_that_is_no_mean_gets_no_number(loss, tmp_path):
    made = trainer(
        "TokenClassification", rows("classes"), tmp_path, 5, callback := ExactEvalLoss(), compute_loss_func=loss
    )
    with pytest.warns(UserWarning, match=f"no exact eval_loss: {REFUSED[loss]}"):
        found = made.evaluate()
    assert "eval_exact_loss" not in found and "eval_loss" in found
    assert callback.found is not None and "no exact value" in str(callback.found)


def test_batches_of_one_sample(tmp_path):
    """They are cut in pairs; where no two can be joined, there is no number."""
    data = rows("classes")
    made = trainer("TokenClassification", data, tmp_path, 1, ExactEvalLoss())
    assert made.evaluate()["eval_exact_loss"] == pytest.approx(aligned("TokenClassification", data), rel=2e-6)
    ragged = [{name: value[: 3 + n] for name, value in row.items()} for n, row in enumerate(data[:6])]
    made = trainer("TokenClassification", ragged, tmp_path, 1, ExactEvalLoss())
    with pytest.warns(UserWarning, match="no batch could be cut into pieces: each has one sample; use a larger"):
        assert "eval_exact_loss" not in made.evaluate()


class Generating(transformers.Trainer):  # type: ignore[misc]
    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        with torch.no_grad():
            return model(**inputs).loss, None, None


class Doubling(transformers.Trainer):  # type: ignore[misc]
    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        loss, *rest = super().prediction_step(*args, **kwargs)
        return (2 * loss, *rest)


class Noting(transformers.Trainer):  # type: ignore[misc]
    """As TRL's trainers do, whose notes are averaged and logged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._notes = {"calls": 0}
        super().__init__(*args, **kwargs)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self._notes["calls"] += 1
        return super().compute_loss(*args, **kwargs)


def test_other_trainers(tmp_path):
    data = rows("classes")
    for kind, reason in (
        (Generating, "compute_loss was not called"),
        (Doubling, "gives another loss than its compute_l"),
    ):
        made = trainer("TokenClassification", data, tmp_path, 5, ExactEvalLoss(), trainer_class=kind)
        with pytest.warns(UserWarning, match=reason):
            assert "eval_exact_loss" not in made.evaluate()
    made = trainer("TokenClassification", data, tmp_path, 5, ExactEvalLoss(), trainer_class=Noting)
    assert made.evaluate()["eval_exact_loss"] == pytest.approx(aligned("TokenClassification", data), rel=2e-6)
    assert made._notes["calls"] == 4


def trained(folder: Any, *callbacks: Any) -> Any:
    data = rows("classes")
    options = {"train_dataset": data, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 6, "logging_steps": 1}
    best = {"metric_for_best_model": "eval_exact_loss" if callbacks else "eval_loss", "save_strategy": "steps"}
    torch.manual_seed(0)
    made = trainer(
        "TokenClassification",
        data,
        folder,
        5,
        *callbacks,
        **options,
        **best,
        save_steps=2,
        seed=1,
        load_best_model_at_end=True,
    )
    made.train()
    return made


def test_training_is_as_without(tmp_path):
    measured, plain = trained(tmp_path, ExactEvalLoss()), trained(tmp_path)
    for a, b in zip(measured.state.log_history, plain.state.log_history, strict=True):
        assert ("eval_loss" in a) == ("eval_exact_loss" in a)
        for name in ("loss", "grad_norm", "eval_loss"):
            assert a.get(name) == b.get(name)
    assert measured.state.best_metric == min(
        log["eval_exact_loss"] for log in measured.state.log_history if "eval_loss" in log
    )


def test_several_sets_and_predict(tmp_path):
    data = rows("classes")
    made = trainer("TokenClassification", {"a": data[:9], "b": data}, tmp_path, 5, ExactEvalLoss())
    found = made.evaluate()
    assert found["eval_b_exact_loss"] == pytest.approx(aligned("TokenClassification", data), rel=2e-6)
    assert found["eval_a_exact_loss"] == pytest.approx(aligned("TokenClassification", data[:9]), rel=2e-6)
    assert made.predict(data).metrics["test_exact_loss"] == found["eval_b_exact_loss"]


def test_a_callback_that_comes_late(tmp_path):
    data, callback = rows("classes"), ExactEvalLoss()
    made = trainer("TokenClassification", data, tmp_path, 5)
    made.add_callback(callback)
    with pytest.warns(UserWarning, match="the callback came after the trainer was made"):
        assert "eval_exact_loss" not in made.evaluate()
    assert "eval_exact_loss" in made.evaluate()
    assert "eval_exact_loss" in str(made.evaluate()) and "the mean over" in str(callback.found)
    other = trainer("TokenClassification", data, tmp_path, 5)
    ExactEvalLoss().attach(other)
    assert "eval_exact_loss" in other.evaluate()
    with pytest.raises(bp.BatchproofError, match=r"attach takes a transformers.Trainer, not int"):
        callback.attach(3)


# ------------------------------------------------------------------ ranks


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(rows("classes"))


def job(rank: int, world: int) -> Any:
    as_torchrun(rank, world)
    warnings.simplefilter("ignore")
    folder, found = Path("/nowhere"), {}
    for name, (kind, labels, options, _) in LOSSES.items():
        if "own function, of" in name or name == "masked":
            continue
        for batch in (2, 4) if name == "causal" else (4,):
            made = trainer(kind, rows(labels), folder, batch, ExactEvalLoss(), **options)
            found[f"{name} {batch}"] = made.evaluate()
    metrics = compute_metrics({"recall": recall}, each="token")
    options = {"compute_metrics": metrics, "batch_eval_metrics": True}
    found["metrics"] = trainer("TokenClassification", rows("classes"), folder, 4, **options).evaluate()
    for name, dispatched in (("stream", True), ("stream read by each", False)):
        config = {"accelerator_config": {"dispatch_batches": dispatched}}
        made = trainer("TokenClassification", Stream(), folder, 4, callback := ExactEvalLoss(), **options, **config)
        try:
            found[name] = made.evaluate()
        except bp.BatchproofError as error:
            found[name] = str(error)
        found[f"{name}, why"] = callback.found.reason if callback.found else ""
    return found


@pytest.fixture(scope="module")
def over_ranks(tmp_path_factory: Any) -> list[dict[str, Any]]:
    return spawned(job, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.integration("transformers", "`ExactEvalLoss` over ranks")
def test_eval_loss_over_ranks(over_ranks):
    for rank in over_ranks:
        for name, (kind, labels, _, expected) in LOSSES.items():
            for batch in (2, 4):
                if f"{name} {batch}" in rank:
                    value = pytest.approx(expected(kind, rows(labels)), rel=2e-6)
                    assert rank[f"{name} {batch}"]["eval_exact_loss"] == value, name


@pytest.mark.integration("transformers", "`compute_metrics` over ranks")
def test_metrics_over_ranks(over_ranks):
    data = rows("classes")
    labels = batch_of(data)["labels"]
    expected = recall(logits_of("TokenClassification", data)[labels != -100], labels[labels != -100])
    for rank in over_ranks:
        for name, value in expected.items():
            assert rank["metrics"][f"eval_{name}"] == pytest.approx(float(value), rel=1e-6)
            assert rank["stream"][f"eval_{name}"] == pytest.approx(float(value), rel=1e-6)


def test_a_stream_that_each_rank_reads_is_refused(over_ranks):
    for rank in over_ranks:
        assert "not known, and ranks repeat some of them" in rank["stream read by each"]
