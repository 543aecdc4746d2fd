"""What Hugging Face code hands around, in every verb: `BatchEncoding`, `model(**batch).loss`, lists of samples."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from batchproof import BatchproofError, accumulate, check_gradients  # noqa: E402
from batchproof.trainers import accelerate, loop  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:(accelerate|transformers|torch).*"),
]
LENGTH = 8


def language_model() -> Any:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=16,
        )
    )  # fmt: skip


def samples(count: int = 12) -> list[dict[str, Tensor]]:
    """Sequences of one length, each with fewer labels than the last, over and over."""
    made = []
    for index in range(count):
        ids = torch.randint(5, 32, (LENGTH,))
        labels = ids.clone()
        labels[3 + index // 2 % 5 :] = -100
        made.append({"input_ids": ids, "labels": labels})
    return made


def encoded(items: list[dict[str, Tensor]]) -> Any:
    return transformers.BatchEncoding({name: torch.stack([item[name] for item in items]) for name in items[0]})


def micro_batches(data: list[dict[str, Tensor]], size: int = 2) -> list[Any]:
    return [encoded(data[start : start + size]) for start in range(0, len(data), size)]


def model_loss(model: Any, batch: Any) -> Tensor:
    loss: Tensor = model(**batch).loss
    return loss


def token_mean(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def mean_of_means(model: Any, parts: list[Any]) -> None:
    for part in parts:
        (model_loss(model, part) / len(parts)).backward()  # type: ignore[no-untyped-call]


def collated_mean_of_means(model: Any, parts: list[Any]) -> None:
    mean_of_means(model, [encoded(part) for part in parts])


def token_means(model: Any, parts: list[Any]) -> None:
    counts = [int((part["labels"][:, 1:] != -100).sum()) for part in parts]
    for part, count in zip(parts, counts, strict=True):
        (model_loss(model, part) * count / sum(counts)).backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("collate", [encoded, None])
def test_a_loader_of_encodings(collate: Any) -> None:
    def train(accelerator: Any, model: Any, optimizer: Any, loader: Any) -> None:
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model_loss(model, batch))
                optimizer.step()
                optimizer.zero_grad()

    loader = DataLoader(samples(), batch_size=2, collate_fn=collate)  # type: ignore[arg-type]
    for found in (
        loop.check(language_model(), model_loss, loader, accumulation_steps=3),
        accelerate.check(train, language_model(), loader, accumulation_steps=3),
    ):
        assert [finding.code for finding in found.findings] == ["mean-of-means"]
        assert found.weights is not None and found.weights.fits == ("shifted labels",)


def test_a_step_on_an_encoding_that_is_cut() -> None:
    batch = encoded(samples())
    found = check_gradients(mean_of_means, batch, language_model(), micro_batches=6)
    assert found.cause == "mean-of-means"
    assert found.weights is not None and found.weights.fits == ("shifted labels",)
    assert type(batch) is transformers.BatchEncoding and len(batch["labels"]) == 12
    assert check_gradients(token_means, batch, language_model(), micro_batches=6).ok


@pytest.mark.parametrize("as_numbers", [False, True])
def test_a_step_on_a_list_of_samples(as_numbers: bool) -> None:
    data: list[Any] = samples()

    def step(model: Any, parts: list[Any]) -> None:
        collated_mean_of_means(model, [[{k: torch.as_tensor(v) for k, v in one.items()} for one in p] for p in parts])

    if as_numbers:
        data = [{name: value.tolist() for name, value in one.items()} for one in data]
    found = check_gradients(step, data, language_model(), micro_batches=6)
    assert found.cause == "mean-of-means"
    assert found.weights is not None and found.weights.fits == ("shifted labels",)


class Whole(nn.Module):
    """Takes the encoding as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = language_model()

    def forward(self, batch: Any) -> Tensor:
        return model_loss(self.net, batch)


def test_a_model_that_takes_the_encoding_shows_its_samples() -> None:
    model, data = Whole(), samples()

    def full() -> None:
        model(encoded(data)).backward()

    def dropped() -> None:
        for part in micro_batches(data)[:-1]:
            (model(part) / 6).backward()

    assert check_gradients(full, dropped, model).cause == "other-samples"


@pytest.mark.parametrize("handed", ["positions", "dictionary", "encoding", "encoding as one", "model output"])
def test_accumulate(handed: str) -> None:
    model, data = language_model(), samples()
    one = copy.deepcopy(model)
    token_mean(one(input_ids=encoded(data)["input_ids"]).logits, encoded(data)["labels"]).backward()  # type: ignore[no-untyped-call]

    def forward(batch: Any) -> Any:
        out = model(input_ids=batch["input_ids"])
        named = {"logits": out.logits, "labels": batch["labels"]}
        ways = {
            "positions": tuple(named.values()), "dictionary": named, "encoding": transformers.BatchEncoding(named),
            "encoding as one": (transformers.BatchEncoding(named),), "model output": (out, batch["labels"]),
        }  # fmt: skip
        return ways[handed]

    loss_fn = {
        "encoding as one": lambda both: token_mean(both["logits"], both["labels"]),
        "model output": lambda out, labels: token_mean(out.logits, labels),
    }.get(handed, lambda logits, labels: token_mean(logits, labels))
    accumulate(loss_fn, forward, micro_batches(data))
    for mine, theirs in zip(model.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_loss_that_the_model_computed_is_refused_with_what_to_do() -> None:
    model, parts = language_model(), micro_batches(samples())
    with pytest.raises(BatchproofError, match="hand over what the loss is computed from"):
        accumulate(lambda loss: loss, lambda part: model_loss(model, part), parts)
    with pytest.raises(BatchproofError, match="call the model without them"):
        accumulate(
            lambda out, labels: token_mean(out.logits, labels), lambda part: (model(**part), part["labels"]), parts
        )
    with pytest.raises(BatchproofError, match="a list of micro-batches, not BatchEncoding"):
        accumulate(token_mean, lambda part: (model(**part).logits, part["labels"]), encoded(samples()))
    with pytest.raises(BatchproofError, match="makes one of a list of samples"):
        loop.check(model, model_loss, samples())  # type: ignore[arg-type]


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(32, 4), nn.Linear(4, 32)

    def forward(self, input_ids: Tensor, labels: Any = None) -> Tensor:
        hidden = self.embedding(input_ids)
        scores: Tensor = self.head(hidden - hidden.mean(0, keepdim=True))
        return scores


@pytest.mark.parametrize("listed", [False, True])
def test_samples_that_meet_in_the_model_are_seen(listed: bool) -> None:
    model, data = Mixed(), samples()
    parts = [data[start : start + 4] for start in range(0, 12, 4)]

    def forward(part: Any) -> Any:
        batch = encoded(part) if listed else part
        return model(**batch), batch["labels"]

    with pytest.raises(BatchproofError, match="depend on the other samples"):
        accumulate(token_mean, forward, parts if listed else [encoded(part) for part in parts])


def test_tokens_that_meet_within_a_sample_do_not_count() -> None:
    model, data = language_model(), samples(2 * LENGTH)

    def forward(part: list[Any]) -> Any:
        batch = encoded(part)
        return model(input_ids=batch["input_ids"]).logits, batch["labels"]

    # as many samples as tokens in each: a list of samples is not read as rows of tokens
    accumulate(token_mean, forward, [data[:LENGTH], data[LENGTH:]])
