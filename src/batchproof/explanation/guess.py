"""Example inputs from parameter names, where none were given.  Every guess is tried before it is believed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from batchproof.errors import BatchproofError
from batchproof.ground import components
from batchproof.ground.isolation import seed_all
from batchproof.ground.target import is_metric, name_of, required, title_of
from batchproof.ground.text import error_line

SAMPLES, MODEL_SAMPLES = 500, 32
CLASSES, LABELS, WIDTH, LENGTH, SIDE = 5, 4, 6, 7, 8

_ROLES = {
    "target": "target targets tgt real y true truth gt actual expected reference ref observed ys ytrue answer",
    "labels": "label labels class classes lbl category",
    "logits": "logit logits",
    "probabilities": "prob probs probability probabilities",
    "mask": "mask masks valid padding keep",
    "weight": "weight weights w importance",
    "embedding": "anchor positive negative emb embs embedding embeddings feature features z za zb zi zj z1 z2 x1 x2 "
    "query key q k text image_features text_features a b h1 h2",
    "image": "img imgs image images picture",
    "length": "length lengths lens",
}
_NUMBERS: dict[str, Any] = {
    "num_classes": CLASSES, "n_classes": CLASSES, "num_labels": LABELS, "eps": 1e-6, "epsilon": 1e-6, "smooth": 1e-6,
    "temperature": 0.5, "tau": 0.5, "margin": 1.0, "alpha": 0.25, "beta": 0.5, "gamma": 2.0, "delta": 1.0, "k": 1,
    "lam": 0.1, "lambda_": 0.1, "ignore_index": -100, "threshold": 0.5, "reduction": "mean", "batch_size": SAMPLES,
}  # fmt: skip
_HINTS = {
    "classes": "cross entropy crossentropy ce nll softmax accuracy acc top1 topk confusion kappa focal perplexity ppl",
    "binary": "bce binary sigmoid dice iou jaccard tversky auc auroc roc brier",
    "labels": "f1 precision recall fbeta mcc",
    "vectors": "triplet contrastive infonce clip ntxent cosine mmd barlow vicreg supcon simclr",
    "images": "ssim psnr",
}


@dataclass(frozen=True)
class Recipe:
    """A kind of data: how to make each role."""

    name: str
    prediction: Callable[[int], Tensor]
    target: Callable[[int], Tensor]
    shape: tuple[int, ...] = ()


def guess_samples(target: Callable[..., Any]) -> tuple[Any, ...]:
    """Inputs on which the target runs and gives finite numbers."""
    failure = "nothing ran"
    for args in _candidates(target):
        try:
            _try(target, args)
        except Exception as error:  # noqa: BLE001 - the next candidate may fit
            failure = error_line(error)
        else:
            return args
    raise BatchproofError(f"no guessed inputs fit {title_of(target)}; pass your own (last try: {failure})")


def _candidates(target: Callable[..., Any]) -> Iterator[tuple[Any, ...]]:
    names = [parameter.name for parameter in required(target)] or ["pred", "target"]
    if isinstance(target, nn.Module) and len(names) == 1 and not is_metric(target):
        for data in _first_layer(target):
            yield (data,)
    for recipe in _in_order(target, names):
        seed_all(0)
        truth = recipe.target(SAMPLES)
        seed_all(0)
        guessed = recipe.prediction(SAMPLES)
        yield tuple(_fill(name, position, recipe, guessed, truth) for position, name in enumerate(names))


def _try(target: Any, args: tuple[Any, ...]) -> None:
    seed_all(0)
    result = _once(target, args)
    values = components.values(result)
    if not bool(values.isfinite().any()):
        raise ValueError("the result is not finite")
    half = tuple(arg[: len(arg) // 2] if isinstance(arg, Tensor) else arg for arg in args)
    _once(target, half)


def _once(target: Any, args: tuple[Any, ...]) -> Any:
    if not is_metric(target):
        return target(*args)
    import copy

    twin = copy.deepcopy(target)
    twin.reset()
    twin.update(*args)
    return twin.compute()


def role_of(name: str) -> str:
    """What a parameter of this name usually holds."""
    words = [*re.split(r"[_\d]+", name.lower()), name.lower()]
    if words[0] == "y" and len(words) > 2 and words[1] in ("pred", "hat", "prob"):
        words = words[1:]
    for word in reversed(words):
        for role, known in _ROLES.items():
            if word in known.split():
                return role
    return "prediction"


def _fill(name: str, position: int, recipe: Recipe, guessed: Tensor, truth: Tensor) -> Any:
    role = role_of(name)
    if name in _NUMBERS and position > 0:
        return _NUMBERS[name]
    if role in ("target", "labels"):
        return truth
    if role == "mask":
        return torch.rand(truth.shape) < 0.8
    if role == "weight":
        return 0.2 + torch.rand(truth.shape)
    if role == "length":
        return torch.randint(1, LENGTH + 1, (SAMPLES,))
    if role == "embedding" and position > 0:
        return guessed + 0.5 * torch.randn(guessed.shape)
    return guessed if position == 0 or recipe.name != "regression" else guessed + 0.3 * torch.randn(guessed.shape)


def _in_order(target: Any, names: list[str]) -> list[Recipe]:
    """The recipes, the likeliest first: by the target's own name, then by what its parameters are called."""
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name_of(target)).lower().replace("_", " ")))
    roles = {role_of(name) for name in names}
    first = [kind for kind, hints in _HINTS.items() if words & set(hints.split())]
    if "logits" in roles:
        first += ["classes", "binary logits"]
    if "labels" in roles:
        first += ["classes", "labels"]
    if "probabilities" in roles:
        first += ["binary", "class probabilities"]
    if "embedding" in roles:
        first += ["vectors"]
    if "image" in roles:
        first += ["images"]
    ranked = [recipe for kind in first for recipe in RECIPES if recipe.name == kind]
    return ranked + [recipe for recipe in RECIPES if recipe not in ranked]


def _noisy(*shape: int) -> Callable[[int], Tensor]:
    def make(n: int) -> Tensor:
        truth = 1 + 4 * torch.rand(n, *shape)
        return truth + 0.5 * torch.randn(n, *shape)

    return make


def _level(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: 1 + 4 * torch.rand(n, *shape)


def _classes(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randint(0, CLASSES, (n, *shape))


def _logits(*shape: int) -> Callable[[int], Tensor]:
    def make(n: int) -> Tensor:
        truth = torch.randint(0, CLASSES, (n, *shape))
        leaning = 1.5 * nn.functional.one_hot(truth, CLASSES).float().movedim(-1, 1)
        return leaning + torch.randn(n, CLASSES, *shape)

    return make


def _coins(*shape: int, dtype: torch.dtype = torch.float32) -> Callable[[int], Tensor]:
    return lambda n: (torch.rand(n, *shape) < 0.3).to(dtype)


def _coin_logits(*shape: int) -> Callable[[int], Tensor]:
    def make(n: int) -> Tensor:
        truth = (torch.rand(n, *shape) < 0.3).float()
        return 2 * (truth - 0.5) + 1.3 * torch.randn(n, *shape)

    return make


def _coin_probabilities(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.sigmoid(_coin_logits(*shape)(n))


def _guessed_classes(n: int) -> Tensor:
    return _logits()(n).argmax(1)


#: A target and its prediction are drawn from the same seed, so the prediction leans towards the target.
RECIPES = [
    Recipe("regression", _noisy(), _level()),
    Recipe("column", _noisy(1), _level(1)),
    Recipe("vectors", _noisy(WIDTH), _level(WIDTH)),
    Recipe("vectors", _noisy(WIDTH), _classes()),
    Recipe("binary", _coin_probabilities(), _coins()),
    Recipe("binary", _coin_probabilities(), _coins(dtype=torch.int64)),
    Recipe("classes", _logits(), _classes()),
    Recipe("classes", _logits(LENGTH), _classes(LENGTH)),
    Recipe("classes", lambda n: _logits(LENGTH)(n).movedim(1, -1), _classes(LENGTH)),
    Recipe("classes", _logits(SIDE, SIDE), _classes(SIDE, SIDE)),
    Recipe("class probabilities", lambda n: _logits()(n).softmax(1), _classes()),
    Recipe("labels", _guessed_classes, _classes()),
    Recipe("binary logits", _coin_logits(), _coins()),
    Recipe("binary", _coin_probabilities(LABELS), _coins(LABELS, dtype=torch.int64)),
    Recipe("images", lambda n: _noisy(3, 16, 16)(n) / 6, lambda n: _level(3, 16, 16)(n) / 6),
    Recipe("images", _coin_probabilities(1, SIDE, SIDE), _coins(1, SIDE, SIDE)),
]


def _first_layer(model: nn.Module) -> Iterator[Tensor]:
    """Inputs that fit the first layer that has a size."""
    n = MODEL_SAMPLES
    for layer in model.modules():
        if isinstance(layer, nn.Embedding):
            yield torch.randint(0, layer.num_embeddings, (n, LENGTH))
        elif isinstance(layer, nn.Linear):
            yield torch.randn(n, layer.in_features)
            yield torch.randn(n, LENGTH, layer.in_features)
            yield from _square(n, layer.in_features)
        elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            dims = len(layer.kernel_size)
            for side in (16, 32, 64, 28, 224):
                yield torch.randn(n, layer.in_channels, *[side] * dims)
        elif isinstance(layer, nn.RNNBase):
            yield torch.randn(n, LENGTH, layer.input_size) if layer.batch_first else torch.randn(n, layer.input_size)
        elif isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm)):
            size = layer.num_features if isinstance(layer, nn.BatchNorm1d) else layer.normalized_shape[-1]
            yield torch.randn(n, size)
        elif isinstance(layer, nn.BatchNorm2d):
            yield torch.randn(n, layer.num_features, SIDE, SIDE)
        else:
            continue
        return


def _square(n: int, features: int) -> Iterator[Tensor]:
    """A flattened image: 784 features are 28 by 28."""
    for channels in (1, 3):
        side = round((features / channels) ** 0.5)
        if channels * side * side == features:
            yield torch.randn(n, channels, side, side)
