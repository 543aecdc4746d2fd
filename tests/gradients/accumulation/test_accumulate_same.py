"""The gradient from micro-batches is the gradient of one batch: for these losses, models and ways of cutting."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchproof as bp
from batchproof.gradients.accumulation import cache as memory
from gradients import Data, Task, by_list, by_steps, cut, same_gradient, same_gradients

N, FEATURES, CLASSES, STEPS = 36, 4, 6, 5
RAGGED = (9, 1, 12, 3, 11)
UNLABELLED = slice(22, 25)  # the fourth of these micro-batches
ONES = (1,) * N
WHOLE = (N,)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Each test learns its losses itself."""
    memory._known.clear()
    yield
    memory._known.clear()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole_numbers(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def samples() -> Data:
    label = whole_numbers(CLASSES, N, seed=1)
    gaps = torch.where(normal(N, seed=2) < -0.2, -100, label)
    gaps[UNLABELLED] = -100
    pixels = whole_numbers(3, N, 2, seed=3)
    lengths = whole_numbers(3, N, seed=4) + 1
    return {
        "x": normal(N, FEATURES),
        "near": normal(N, FEATURES) + 0.1 * normal(N, FEATURES, seed=5),
        "far": normal(N, FEATURES, seed=6),
        "label": label,
        "gaps": gaps,
        "pixels": torch.where(pixels.sum(1, keepdim=True) > 3, -100, pixels),
        "real": normal(N, CLASSES, seed=7) + 0.5 * normal(N, FEATURES)[:, :1],
        "sign": torch.where(normal(N, seed=8) > 0, 1.0, -1.0).double(),
        "signs": torch.where(normal(N, CLASSES, seed=9) > 0, 1.0, -1.0).double(),
        "bits": (normal(N, CLASSES, seed=10) > 0.3).double(),
        "share": normal(N, CLASSES, seed=11).softmax(1),
        "weight": normal(N, CLASSES, seed=12).abs(),
        "picked": torch.where(torch.arange(CLASSES) < lengths[:, None], normal(N, CLASSES, seed=13).argsort(1), -1),
        "times": normal(N, STEPS, seed=14),
        "text": whole_numbers(CLASSES - 1, N, 3, seed=15) + 1,
        "lengths": lengths,
    }


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()


def step(task: Task) -> None:
    """What an optimizer does."""
    for number, parameter in enumerate(task.parameters):
        with torch.no_grad():
            parameter.add_(0.1 * normal(*parameter.shape, seed=100 + number))


def every_way(task: Task, data: Data) -> set[int]:
    """The first call, when nothing is known; a second, onto gradients that are there; and after the parameters moved.

    Returns:
        The schemes that lists were given.
    """
    parts = cut(data, RAGGED)
    same_gradient(task, parts)
    before = [None if number % 2 else 0.1 * normal(*p.shape, seed=number) for number, p in enumerate(task.parameters)]
    schemes = same_gradient(task, parts, [by_list], before)
    same_gradient(task, parts, before=before)
    step(task)
    same_gradient(task, parts)
    schemes |= same_gradient(task, cut(data, ONES), [by_list])
    schemes |= same_gradient(task, cut(data, WHOLE), [by_list])
    return schemes


# ------------------------------------------------------------------ torch.nn.functional

CLASS_WEIGHTS = torch.tensor([0.2, 3.0, 1.0, 0.5, 2.0, 1.3], dtype=torch.float64)


@dataclass
class Case:
    """A function of torch.nn.functional with its options, and what it is given: of the model's outputs and of data."""

    function: str
    outputs: Callable[[Callable[[Tensor], Tensor], Data], tuple[Tensor, ...]]
    options: dict[str, Any]
    dims: int | tuple[int | None, ...] = 0
    scheme: int = 1

    @property
    def name(self) -> str:
        def shown(value: Any) -> str:
            return "" if isinstance(value, Tensor) or callable(value) else f"={value}"

        return "-".join([self.function, *(f"{key}{shown(value)}" for key, value in self.options.items())])


def case(function: str, outputs: Any, dims: Any = 0, **options: Any) -> Case:
    return Case(function, outputs, options, dims)


def logits_and(name: str) -> Any:
    return lambda f, d: (f(d["x"]), d[name])


def log_shares_and(name: str) -> Any:
    return lambda f, d: (f(d["x"]).log_softmax(1), d[name])


def triplet(f: Callable[[Tensor], Tensor], d: Data) -> tuple[Tensor, ...]:
    return f(d["x"]), f(d["near"]), f(d["far"])


def spoken(f: Callable[[Tensor], Tensor], d: Data) -> tuple[Tensor, ...]:
    frames = (f(d["x"])[:, None] * d["times"][:, :, None]).log_softmax(2)
    return frames.transpose(0, 1), d["text"], torch.full_like(d["lengths"], STEPS), d["lengths"]


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().sum(1)


WITH_SHARES: Any = lambda f, d: (f(d["x"]).sigmoid(), d["share"])  # noqa: E731
CASES = [
    case("binary_cross_entropy", WITH_SHARES),
    case("binary_cross_entropy", WITH_SHARES, weight=CLASS_WEIGHTS),
    case("binary_cross_entropy", lambda f, d: (f(d["x"]).sigmoid(), d["bits"], d["weight"])),
    case("binary_cross_entropy_with_logits", logits_and("bits")),
    case("binary_cross_entropy_with_logits", logits_and("bits"), pos_weight=CLASS_WEIGHTS),
    case("binary_cross_entropy_with_logits", logits_and("bits"), weight=CLASS_WEIGHTS, pos_weight=CLASS_WEIGHTS),
    case("cosine_embedding_loss", lambda f, d: (f(d["x"]), d["real"], d["sign"]), margin=0.2),
    case("cross_entropy", logits_and("label")),
    case("cross_entropy", logits_and("label"), weight=CLASS_WEIGHTS),
    case("cross_entropy", logits_and("gaps")),
    case("cross_entropy", logits_and("label"), ignore_index=2),
    case("cross_entropy", logits_and("gaps"), weight=CLASS_WEIGHTS, label_smoothing=0.1),
    case("cross_entropy", logits_and("share"), label_smoothing=0.1),
    case("cross_entropy", logits_and("share"), weight=CLASS_WEIGHTS),
    case("cross_entropy", lambda f, d: (f(d["x"]).view(-1, 3, 2), d["pixels"]), weight=CLASS_WEIGHTS[:3]),
    case("ctc_loss", spoken, (1, 0, 0, 0)),
    case("ctc_loss", spoken, (1, 0, 0, 0), zero_infinity=True),
    case("gaussian_nll_loss", lambda f, d: (f(d["x"]), d["real"], F.softplus(f(d["far"]))), full=True),
    case("gaussian_nll_loss", lambda f, d: (f(d["x"]), d["real"], F.softplus(f(d["far"])[:, :1]))),
    case("hinge_embedding_loss", logits_and("signs"), margin=0.7),
    case("huber_loss", logits_and("real"), delta=0.5),
    case("huber_loss", lambda f, d: (f(d["x"]), d["real"], d["weight"])),
    case("kl_div", log_shares_and("share")),
    case("kl_div", lambda f, d: (f(d["x"]).log_softmax(1), d["share"].log()), log_target=True),
    case("l1_loss", logits_and("real")),
    case("linear_cross_entropy", lambda f, d: (d["x"], OUTPUT, d["gaps"]), (0, None, 0)),
    case("linear_cross_entropy", lambda f, d: (f(d["x"]), HEAD, d["label"]), (0, None, 0), weight=CLASS_WEIGHTS),
    case("margin_ranking_loss", lambda f, d: (f(d["x"])[:, 0], f(d["x"])[:, 1], d["sign"]), margin=0.3),
    case("mse_loss", logits_and("real")),
    case("mse_loss", lambda f, d: (f(d["x"]), d["real"], d["weight"])),
    case("multi_margin_loss", logits_and("label")),
    case("multi_margin_loss", logits_and("label"), p=2, margin=0.8, weight=CLASS_WEIGHTS),
    case("multilabel_margin_loss", logits_and("picked")),
    case("multilabel_soft_margin_loss", logits_and("bits")),
    case("multilabel_soft_margin_loss", logits_and("bits"), weight=CLASS_WEIGHTS),
    case("nll_loss", log_shares_and("label")),
    case("nll_loss", log_shares_and("gaps"), weight=CLASS_WEIGHTS),
    case("nll_loss", log_shares_and("label"), ignore_index=2),
    case("poisson_nll_loss", lambda f, d: (f(d["x"]), d["weight"])),
    case(
        "poisson_nll_loss", lambda f, d: (f(d["x"]).exp(), d["label"][:, None] + d["bits"]), log_input=False, full=True
    ),
    case("smooth_l1_loss", logits_and("real"), beta=0.5),
    case("soft_margin_loss", logits_and("signs")),
    case("triplet_margin_loss", triplet),
    case("triplet_margin_loss", triplet, p=1, swap=True, margin=0.4),
    case("triplet_margin_with_distance_loss", triplet),
    case("triplet_margin_with_distance_loss", triplet, distance_function=distance, swap=True),
]
#: Those that this torch has: linear_cross_entropy is younger than the oldest that is supported.
CASES = [one for one in CASES if hasattr(F, one.function)]
MODEL = network()
OUTPUT = normal(CLASSES, FEATURES, seed=20).requires_grad_()
HEAD = normal(CLASSES, CLASSES, seed=21).requires_grad_()
HELD = [*MODEL.parameters(), OUTPUT, HEAD]


@pytest.fixture(autouse=True)
def rewound() -> Iterator[None]:
    """Tests move the parameters that they share."""
    start = [parameter.detach().clone() for parameter in HELD]
    yield
    for parameter, value in zip(HELD, start, strict=True):
        parameter.data = value
        parameter.grad = None


def functions_that_reduce() -> set[str]:
    """All of torch.nn.functional that has a reduction, or is called a loss."""
    found = set()
    for name, thing in vars(F).items():
        if name.startswith("_") or not callable(thing) or inspect.isclass(thing):
            continue
        try:
            reduces = "reduction" in inspect.signature(thing).parameters
        except (TypeError, ValueError):  # written in C: these say what they take in the first line of their text
            reduces = "reduction" in (thing.__doc__ or "").partition("\n\n")[0]
        if reduces or any(word in name for word in ("loss", "entropy", "kl_div", "nll")):
            found.add(name)
    return found


def test_no_loss_of_torch_is_forgotten() -> None:
    assert functions_that_reduce() == {case.function for case in CASES}
    assert {name for name in dir(nn) if name.endswith("Loss")} == {*MODULES, *WITH_PARAMETERS}


#: Sums of every third; the others are long.
REDUCED = [
    pytest.param(
        one,
        reduction,
        id=f"{one.name}-{reduction}",
        marks=pytest.mark.long if reduction == "sum" and number % 3 else (),
    )
    for number, one in enumerate(CASES)
    for reduction in ("mean", "sum", *(["batchmean"] if one.function == "kl_div" else []))
]


def bound(one: Case, **options: Any) -> Callable[..., Tensor]:
    function = getattr(F, one.function)
    if one.function in ("binary_cross_entropy", "huber_loss", "mse_loss") and len(one.outputs(MODEL, samples())) == 3:
        return lambda pred, real, weight: function(pred, real, weight=weight, **one.options, **options)
    return partial(function, **one.options, **options)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")
@pytest.mark.parametrize(("one", "reduction"), REDUCED)
def test_functional(one: Case, reduction: str) -> None:
    task = Task(bound(one, reduction=reduction), lambda part: one.outputs(MODEL, part), HELD, one.dims)
    assert every_way(task, samples()) == {one.scheme}


MODULES = {
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "CTCLoss": "ctc_loss",
    "CosineEmbeddingLoss": "cosine_embedding_loss",
    "CrossEntropyLoss": "cross_entropy",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "HingeEmbeddingLoss": "hinge_embedding_loss",
    "HuberLoss": "huber_loss",
    "KLDivLoss": "kl_div",
    "L1Loss": "l1_loss",
    "MSELoss": "mse_loss",
    "MarginRankingLoss": "margin_ranking_loss",
    "MultiLabelMarginLoss": "multilabel_margin_loss",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "NLLLoss": "nll_loss",
    "PoissonNLLLoss": "poisson_nll_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "TripletMarginLoss": "triplet_margin_loss",
    "TripletMarginWithDistanceLoss": "triplet_margin_with_distance_loss",
}
WITH_PARAMETERS = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(CLASSES, CLASSES, cutoffs=[2]),
    "LinearCrossEntropyLoss": lambda: nn.LinearCrossEntropyLoss(CLASSES, CLASSES, bias=True, ignore_index=2),
}
WITH_PARAMETERS = {name: make for name, make in WITH_PARAMETERS.items() if hasattr(nn, name)}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")
@pytest.mark.parametrize(("name", "function"), MODULES.items(), ids=MODULES)
def test_modules(name: str, function: str) -> None:
    one = next(one for one in CASES if one.function == function)
    task = Task(getattr(nn, name)(**one.options), lambda part: one.outputs(MODEL, part), HELD, one.dims)
    assert every_way(task, samples()) == {1}


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_modules_with_parameters(name: str) -> None:
    module = WITH_PARAMETERS[name]().double()

    def loss_fn(hidden: Tensor, label: Tensor) -> Tensor:
        value = module(hidden, label)
        return value if isinstance(value, Tensor) else value.loss  # type: ignore[no-any-return]

    task = Task(loss_fn, lambda part: logits_and("label")(MODEL, part), [*HELD, *module.parameters()])
    every_way(task, samples())


# ------------------------------------------------------------------ losses that people write


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return F.mse_loss(pred, real).sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().sum() / (real - real.mean(0)).square().sum()


def pearson(pred: Tensor, real: Tensor) -> Tensor:
    a, b = pred - pred.mean(), real - real.mean()
    return 1 - (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


def ccc(pred: Tensor, real: Tensor) -> Tensor:
    """Lin's concordance correlation, of each column."""
    a, b = pred.mean(0), real.mean(0)
    shared = ((pred - a) * (real - b)).mean(0)
    spread = pred.var(0, unbiased=False) + real.var(0, unbiased=False) + (a - b).square()
    return 1 - (2 * shared / spread).mean()


def dice_pooled(pred: Tensor, bits: Tensor) -> Tensor:
    share = pred.sigmoid()
    return 1 - (2 * (share * bits).sum() + 1) / (share.sum() + bits.sum() + 1)


def dice_by_class(pred: Tensor, bits: Tensor) -> Tensor:
    share = pred.sigmoid()
    return 1 - ((2 * (share * bits).sum(0) + 1) / (share.sum(0) + bits.sum(0) + 1)).mean()


def dice_by_sample(pred: Tensor, bits: Tensor) -> Tensor:
    share = pred.sigmoid()
    return 1 - ((2 * (share * bits).sum(1) + 1) / (share.sum(1) + bits.sum(1) + 1)).mean()


def focal(pred: Tensor, bits: Tensor) -> Tensor:
    """RetinaNet's: over all boxes, by the number that hold something."""
    error = F.binary_cross_entropy_with_logits(pred, bits, reduction="none")
    missed = 1 - torch.exp(-error)
    return (0.25 * missed.square() * error).sum() / bits.sum().clamp(min=1)


def perplexity(pred: Tensor, gaps: Tensor) -> Tensor:
    return F.cross_entropy(pred, gaps).exp()


def contrast(a: Tensor, b: Tensor, heat: Tensor) -> Tensor:
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T * heat.exp()
    label = torch.arange(len(a))
    return (F.cross_entropy(scores, label) + F.cross_entropy(scores.T, label)) / 2


def barlow_twins(a: Tensor, b: Tensor) -> Tensor:
    a, b = (a - a.mean(0)) / a.std(0), (b - b.mean(0)) / b.std(0)
    shared = a.T @ b / len(a)
    on = shared.diagonal()
    return (on - 1).square().sum() + 5e-3 * (shared.square().sum() - on.square().sum())


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    def spread(x: Tensor) -> Tensor:
        x = x - x.mean(0)
        cov = x.T @ x / (len(x) - 1)
        off = cov - torch.diag(cov.diagonal())
        return F.relu(1 - (x.var(0) + 1e-4).sqrt()).mean() + off.square().sum() / x.shape[1]

    return 25 * F.mse_loss(a, b) + spread(a) + spread(b)


def moe_balance(scores: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy, and Switch Transformer's load balance of the same router."""
    share = scores.softmax(1)
    load = F.one_hot(share.argmax(1), CLASSES).to(share.dtype).mean(0)
    return F.cross_entropy(scores, label) + 0.01 * CLASSES * (load * share.mean(0)).sum()


def hardest(pred: Tensor, label: Tensor) -> Tensor:
    """Online hard example mining: the worst third."""
    return F.cross_entropy(pred, label, reduction="none").topk(len(pred) // 3).values.mean()


def two_tasks(pred: Tensor, real: Tensor, label: Tensor) -> Tensor:
    """Terms that weigh differently on every batch, far apart in size."""
    return F.cross_entropy(pred, label) + (1e5 * (pred - real)).square().mean().sqrt()


def cox(risk: Tensor, times: Tensor, seen: Tensor) -> Tensor:
    """The partial likelihood of a survival model: each sample against all that lived longer."""
    later = times[None] >= times[:, None]
    log_sums = torch.where(later, risk[None], -math.inf).logsumexp(1)
    return -((risk - log_sums) * seen).sum() / seen.sum()


def log_mean_exp(pred: Tensor) -> Tensor:
    return pred.logsumexp(0).mean() - math.log(len(pred))


def first_and(name: str) -> Any:
    return lambda f, d: (f(d["x"])[:, 0], d[name][:, 0])


def both_views(f: Callable[[Tensor], Tensor], d: Data) -> tuple[Tensor, ...]:
    return f(d["x"]), f(d["near"])


WRITTEN: list[tuple[Callable[..., Tensor], Any]] = [
    (rmse, logits_and("real")),
    (r2, logits_and("real")),
    (pearson, first_and("real")),
    (ccc, logits_and("real")),
    (dice_pooled, logits_and("bits")),
    (dice_by_class, logits_and("bits")),
    (dice_by_sample, logits_and("bits")),
    (focal, logits_and("bits")),
    (perplexity, logits_and("gaps")),
    (barlow_twins, both_views),
    (vicreg, both_views),
    (moe_balance, logits_and("label")),
    (hardest, logits_and("label")),
    (two_tasks, lambda f, d: (f(d["x"]), d["real"], d["label"])),
    (cox, lambda f, d: (f(d["x"])[:, 0], d["times"][:, 0], d["bits"][:, 0])),
    (log_mean_exp, lambda f, d: (f(d["x"]),)),
]


@pytest.mark.parametrize(("loss_fn", "outputs"), WRITTEN, ids=[fn.__name__ for fn, _ in WRITTEN])
def test_written(loss_fn: Callable[..., Tensor], outputs: Any) -> None:
    every_way(Task(loss_fn, lambda part: outputs(MODEL, part), HELD[:4]), samples())


# ------------------------------------------------------------------ parameters that live in the loss


class Contrast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heat = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return contrast(a, b, self.heat)


def test_a_temperature_in_a_module() -> None:
    loss_fn = Contrast()
    every_way(Task(loss_fn, lambda part: both_views(MODEL, part), [*HELD[:4], loss_fn.heat]), samples())


def test_a_temperature_in_a_closure() -> None:
    heat = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))

    def loss_fn(a: Tensor, b: Tensor) -> Tensor:
        return contrast(a, b, heat)

    every_way(Task(loss_fn, lambda part: both_views(MODEL, part), [*HELD[:4], heat]), samples())


def test_a_temperature_as_an_argument() -> None:
    heat = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))
    task = Task(contrast, lambda part: (*both_views(MODEL, part), heat), [*HELD[:4], heat], (0, 0, None))
    every_way(task, samples())


def test_a_temperature_of_sums() -> None:
    """Used sample by sample, and once more after the mean."""
    heat = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))

    def loss_fn(pred: Tensor, gaps: Tensor) -> Tensor:
        return F.cross_entropy(pred * heat.exp(), gaps).sqrt() + heat.square()

    assert every_way(Task(loss_fn, lambda part: logits_and("gaps")(MODEL, part), [*HELD[:4], heat]), samples()) == {1}


def test_a_temperature_of_sums_as_an_argument() -> None:
    heat = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))

    def loss_fn(pred: Tensor, gaps: Tensor, heat: Tensor) -> Tensor:
        return F.cross_entropy(pred * heat.exp(), gaps).sqrt() + heat.square()

    outputs = logits_and("gaps")
    every_way(Task(loss_fn, lambda part: (*outputs(MODEL, part), heat), [*HELD[:4], heat], (0, 0, None)), samples())


class Uncertain(nn.Module):
    """Kendall's weights of several tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64))

    def forward(self, pred: Tensor, real: Tensor, gaps: Tensor) -> Tensor:
        terms = torch.stack([F.mse_loss(pred, real), F.cross_entropy(pred, gaps), F.l1_loss(pred, real).sqrt()])
        return (terms * torch.exp(-self.log_variance) + self.log_variance / 2).sum()


def test_learned_weights_of_tasks() -> None:
    loss_fn = Uncertain()
    parameters = [*HELD[:4], loss_fn.log_variance]
    every_way(Task(loss_fn, lambda part: (MODEL(part["x"]), part["real"], part["gaps"]), parameters), samples())


def test_weight_decay() -> None:
    """The model's own parameters, reached through the outputs and in the loss."""

    def loss_fn(pred: Tensor, real: Tensor) -> Tensor:
        return F.mse_loss(pred, real).sqrt() + 0.1 * sum(p.square().sum() for p in HELD[:4])

    every_way(Task(loss_fn, lambda part: logits_and("real")(MODEL, part), HELD[:4]), samples())


def test_weights_shared_with_the_loss() -> None:
    """A last layer that the loss multiplies by, around a batch statistic too."""
    outputs = logits_and("real")

    def loss_fn(hidden: Tensor, real: Tensor) -> Tensor:
        return r2(F.linear(hidden, MODEL[2].weight[:, :CLASSES]), real) + F.mse_loss(hidden @ HEAD, real).sqrt()

    every_way(Task(loss_fn, lambda part: outputs(MODEL, part), [*HELD[:4], HEAD]), samples())


# ------------------------------------------------------------------ a loss that changes from call to call


class Annealed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = 0.5
        self.power = 1.0
        self.weight = CLASS_WEIGHTS.clone()

    def forward(self, pred: Tensor, real: Tensor) -> Tensor:
        error = (pred * self.power - real).square() * self.weight
        return error.mean() + self.beta * error.mean().sqrt()


@pytest.mark.parametrize("change", ["after the sums", "before them", "both", "a tensor", "in place", "half in place"])
def test_a_module_that_is_annealed(change: str) -> None:
    loss_fn = Annealed()
    task = Task(loss_fn, lambda part: logits_and("real")(MODEL, part), HELD[:4])
    parts = cut(samples(), RAGGED)
    for number in range(4):
        same_gradient(task, parts)
        if change in ("after the sums", "both"):
            loss_fn.beta = 2.0 - number
        if change in ("before them", "both"):
            loss_fn.power = 1.5 - 0.2 * number
        if change == "a tensor":
            loss_fn.weight = (number + 2) * CLASS_WEIGHTS
        if change == "in place":
            loss_fn.weight *= 1.7
        if change == "half in place":
            loss_fn.weight[number] = 0.0


SCALE = 1.0


def by_global(pred: Tensor, real: Tensor) -> Tensor:
    return (SCALE * (pred - real)).square().mean().sqrt()


def by_branch(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().mean() if SCALE > 1.5 else rmse(pred, real)


@pytest.mark.parametrize("loss_fn", [by_global, by_branch], ids=["number", "branch"])
def test_a_global_that_changes(loss_fn: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(loss_fn, lambda part: logits_and("real")(MODEL, part), HELD[:4])
    parts = cut(samples(), RAGGED)
    for value in (1.0, 3.0, 0.5, 1.0):
        monkeypatch.setitem(globals(), "SCALE", value)
        same_gradient(task, parts)
        same_gradient(task, parts)


def test_a_function_made_for_every_step() -> None:
    parts = cut(samples(), RAGGED)
    for number in range(4):
        beta, weight = 0.3 + number, CLASS_WEIGHTS + number

        def loss_fn(pred: Tensor, gaps: Tensor, beta: float = beta) -> Tensor:
            return beta * F.cross_entropy(pred, gaps, weight).sqrt()  # noqa: B023 - it is called in this turn

        same_gradient(Task(loss_fn, lambda part: logits_and("gaps")(MODEL, part), HELD[:4]), parts)


def test_a_parameter_that_is_replaced() -> None:
    loss_fn = Contrast()
    parts = cut(samples(), RAGGED)
    for value in (1.1, 0.7, 0.2):
        loss_fn.heat = nn.Parameter(torch.tensor(value, dtype=torch.float64))
        same_gradient(Task(loss_fn, lambda part: both_views(MODEL, part), [*HELD[:4], loss_fn.heat]), parts)


def test_a_layer_that_is_frozen_between_calls() -> None:
    task = Task(rmse, lambda part: logits_and("real")(MODEL, part), HELD[:4])
    parts = cut(samples(), RAGGED)
    same_gradient(task, parts)
    try:
        MODEL[0].requires_grad_(False)
        same_gradient(task, parts)
    finally:
        MODEL[0].requires_grad_(True)
    same_gradient(task, parts)


# ------------------------------------------------------------------ losses that torch itself is careful with


def writes_in_place(pred: Tensor, gaps: Tensor) -> Tensor:
    """Into what the model gave it."""
    pred[gaps < 0] = 0.0
    pred.clamp_(max=1.0)
    return F.cross_entropy(pred, gaps).sqrt()


def writes_in_place_and_ranks(pred: Tensor, gaps: Tensor) -> Tensor:
    pred[gaps < 0] = 0.0
    return pred.mul_(2).amax(1).sort().values[: len(pred) // 2].square().mean()


def fills_a_table(pred: Tensor, label: Tensor) -> Tensor:
    """Slices are assigned, of samples and of sums."""
    moved = torch.zeros_like(pred)
    moved[:, 1:] = pred[:, :-1]
    moved[:, 0].copy_(pred[:, 2] * 2)
    table = torch.zeros(CLASSES, CLASSES, dtype=pred.dtype)
    for row in range(CLASSES):
        table[row, row] = moved[:, row].mean()
        table[0, row] = (moved[:, row] * (label == row)).sum() / len(pred)
    return table.square().sum()


def stops_a_gradient(pred: Tensor, label: Tensor) -> Tensor:
    """The share of the right class weighs its error, and takes no gradient; nor does the mean."""
    error = F.cross_entropy(pred, label, reduction="none")
    with torch.no_grad():
        sure = torch.exp(-error)
    return ((1 - sure) * error).mean() / error.mean().detach()


def takes_a_gradient(pred: Tensor, real: Tensor) -> Tensor:
    """Of its own, as a penalty does."""
    (slope,) = torch.autograd.grad((pred.sigmoid() * real).sum(), pred, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


def infinite_beside(pred: Tensor, real: Tensor) -> Tensor:
    """An undefined logarithm that is not chosen, as in the Stirling term of poisson_nll_loss."""
    return torch.where(real > 0, (pred - real.clamp_min(0).sqrt()).square(), pred.abs()).mean()


CAREFUL: list[tuple[Callable[..., Tensor], str]] = [
    (writes_in_place, "gaps"),
    (writes_in_place_and_ranks, "gaps"),
    (fills_a_table, "label"),
    (stops_a_gradient, "label"),
    (takes_a_gradient, "real"),
    (infinite_beside, "real"),
]


@pytest.mark.parametrize(("loss_fn", "name"), CAREFUL, ids=[fn.__name__ for fn, _ in CAREFUL])
def test_careful(loss_fn: Callable[..., Tensor], name: str) -> None:
    every_way(Task(loss_fn, lambda part: logits_and(name)(MODEL, part), HELD[:4]), samples())


# ------------------------------------------------------------------ few and unlucky samples


@pytest.mark.parametrize("loss_fn", [rmse, r2, hardest, barlow_twins], ids=lambda fn: fn.__name__)
def test_few_samples(loss_fn: Callable[..., Tensor]) -> None:
    """Too few to learn from, until several calls have brought enough."""
    outputs = next(outputs for fn, outputs in WRITTEN if fn is loss_fn)
    task = Task(loss_fn, lambda part: outputs(MODEL, part), HELD[:4])
    parts = cut(samples(), RAGGED)
    for lo, hi in ((2, 4), (0, 2), (4, 5), (2, 3), (0, 5), (4, 5)):
        same_gradient(task, parts[lo:hi])


@pytest.mark.parametrize("first", [[3], [3, 1], [0]], ids=str)
def test_no_labels_at_first(first: list[int]) -> None:
    """What a loss is learned from may say little of it: a loss of nothing but gaps is NaN, as for one batch."""
    task = Task(perplexity, lambda part: logits_and("gaps")(MODEL, part), HELD[:4])
    parts = cut(samples(), RAGGED)
    blank = [{**part, "gaps": torch.full_like(part["gaps"], -100)} for part in parts]
    loss, _ = task.one_batch(blank)
    assert loss.isnan()
    assert by_list(task, blank)[0].isnan()
    with pytest.raises(bp.BatchproofError, match="not finite"):
        by_steps(task, blank)
    same_gradient(task, [parts[place] for place in first if place != 3] or parts)
    same_gradient(task, [*blank[:3], *parts, *blank[2:]])


def test_no_labels_and_a_count_that_is_at_least_one() -> None:
    """The loss of no positives is 0 by another denominator; then they come."""
    task = Task(focal, lambda part: logits_and("bits")(MODEL, part), HELD[:4])
    parts = cut(samples(), RAGGED)
    blank = [{**part, "bits": torch.zeros_like(part["bits"])} for part in parts]
    for mixture in (blank, parts, blank, [*blank, *parts], [parts[1]], parts):
        same_gradient(task, mixture)


def test_no_labels_among_the_few_that_are_looked_at() -> None:
    """A loss that raises where nothing is labelled, as nothing is in the first samples of a large micro-batch."""
    model = network()
    x, y = normal(160, FEATURES, seed=1), normal(160, seed=2)
    y[:80] = -1e3

    def worst(pred: Tensor, real: Tensor) -> Tensor:
        here = real > -1e2
        off = (pred[here] - real[here]).square()
        return off.mean() / off.detach().amax()

    forward = lambda part: (model(part[0])[:, 0], part[1])  # noqa: E731
    same_gradient(Task(worst, forward, list(model.parameters())), list(zip(x.split(100), y.split(100))), [by_list])


def test_large_units() -> None:
    """A sum of squares of 1e9 has a derivative that is small beside the others, and counts as much."""

    def loss_fn(pred: Tensor, real: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(pred, label) + (1e9 * (pred - real)).square().mean().sqrt() / 1e9

    parts = cut(samples(), RAGGED)
    task = Task(loss_fn, lambda part: (MODEL(part["x"]), part["real"], part["label"]), HELD[:4])
    every_way(task, samples())
    scaled = [{**part, "real": part["real"] * (number + 1)} for number, part in enumerate(parts)]
    same_gradient(task, scaled)


# ------------------------------------------------------------------ models


class Picture(nn.Module):
    """A convolutional network that drops half of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Dropout2d(0.3),
            nn.Conv2d(4, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, CLASSES),
        )  # fmt: skip

    def forward(self, picture: Tensor) -> Tensor:
        return self.body(picture)  # type: ignore[no-any-return]


VOCABULARY, HIDDEN, LONGEST = 7, 8, 6


class Language(nn.Module):
    """A transformer over texts of unequal length, padded with -100; its embedding is its last layer, too."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.place = nn.Parameter(normal(LONGEST, HIDDEN, seed=31))
        self.layer = nn.TransformerEncoderLayer(HIDDEN, 2, 16, dropout, batch_first=True)

    def forward(self, text: Tensor) -> Tensor:
        hidden = self.embedding(text.clamp(min=0)) + self.place[: text.shape[1]]
        ahead = torch.ones(2 * (text.shape[1],), dtype=torch.bool).triu(1)
        hidden = self.layer(hidden, src_mask=ahead, src_key_padding_mask=text < 0)
        return hidden @ self.embedding.weight.T


def pictures() -> Data:
    return {**samples(), "picture": normal(N, 1, 6, 6, seed=30)}


def texts(sizes: tuple[int, ...] = RAGGED) -> list[Data]:
    """Micro-batches of texts, each padded to its own longest; in one of them no token has a label."""
    lengths = (whole_numbers(LONGEST - 1, N, seed=32) + 2).sort().values  # as a sampler that saves padding gives them
    longest = [int(part.max()) for part in lengths.split(list(sizes))]
    tokens = torch.where(torch.arange(LONGEST) < lengths[:, None], whole_numbers(VOCABULARY, N, LONGEST, seed=33), -100)
    parts = []
    for tokens_here, width in zip(tokens.split(list(sizes)), longest, strict=True):
        label = tokens_here.roll(-1, 1)
        label[:, -1] = -100
        parts.append({"text": tokens_here[:, :width], "label": label[:, :width]})
    if len(parts) == len(RAGGED):
        parts[3]["label"] = torch.full_like(parts[3]["label"], -100)
    return parts


def smooth_tokens(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), label.flatten(), label_smoothing=0.1)


def token_perplexity(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), label.flatten()).exp()


def token_and_z(logits: Tensor, label: Tensor) -> Tensor:
    """PaLM's: the mean over tokens, and that of the squared log of the normaliser."""
    known = label >= 0
    return F.cross_entropy(logits.flatten(0, -2), label.flatten()) + 1e-2 * (
        (logits.logsumexp(-1).square() * known).sum() / known.sum()
    )


def worst_tokens(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), label.flatten(), reduction="none").topk(20).values.mean()


def steady(module: nn.Module) -> nn.Module:
    return module.double().train()


@pytest.mark.parametrize("loss_fn", [perplexity, ccc, dice_pooled, hardest, vicreg], ids=lambda fn: fn.__name__)
def test_pictures(loss_fn: Callable[..., Tensor]) -> None:
    torch.manual_seed(1)
    model = steady(Picture())
    name = {perplexity: "gaps", dice_pooled: "bits", hardest: "label"}.get(loss_fn, "real")
    task = Task(loss_fn, lambda part: (model(part["picture"]), part[name]), list(model.parameters()))
    every_way(task, pictures())


def flattened(model: nn.Module) -> Callable[[Data], tuple[Tensor, Tensor]]:
    return lambda part: (model(part["text"]).view(-1, VOCABULARY), part["label"].reshape(-1))


def padded(model: nn.Module) -> Callable[[Data], tuple[Tensor, Tensor]]:
    return lambda part: (model(part["text"]), part["label"])


def to_one_length(outputs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """One batch of texts that were padded to different lengths."""
    width = max(label.shape[1] for _, label in outputs)
    logits = [F.pad(logits, (0, 0, 0, width - logits.shape[1])) for logits, _ in outputs]
    return [
        torch.cat(logits),
        torch.cat([F.pad(label, (0, width - label.shape[1]), value=-100) for _, label in outputs]),
    ]


TOKEN_LOSSES = [smooth_tokens, token_perplexity, token_and_z]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("loss_fn", [*TOKEN_LOSSES, worst_tokens], ids=lambda fn: fn.__name__)
def test_tokens_in_a_row(loss_fn: Callable[..., Tensor], dropout: float) -> None:
    torch.manual_seed(2)
    model = steady(Language(dropout))
    task = Task(loss_fn, flattened(model), list(model.parameters()))
    same_gradient(task, texts())
    step(task)
    same_gradient(task, texts(), before=[0.1 * torch.ones_like(p) for p in task.parameters])
    same_gradient(task, texts((4,) * 9), [by_list])
    same_gradient(task, texts(WHOLE), [by_list])


@pytest.mark.parametrize("loss_fn", [*TOKEN_LOSSES, worst_tokens], ids=lambda fn: fn.__name__)
def test_texts_of_one_length(loss_fn: Callable[..., Tensor]) -> None:
    """All padded alike in one call, and to another length in the next."""
    torch.manual_seed(2)
    model = steady(Language(0.3))
    task = Task(loss_fn, padded(model), list(model.parameters()))
    data = texts(WHOLE)[0]
    for width in (LONGEST, LONGEST, LONGEST - 2, LONGEST):
        shorter = {name: values[:, :width] for name, values in data.items()}
        same_gradient(task, cut(shorter, RAGGED))
        step(task)


@pytest.mark.parametrize("loss_fn", TOKEN_LOSSES, ids=lambda fn: fn.__name__)
def test_texts_of_many_lengths(loss_fn: Callable[..., Tensor]) -> None:
    """Each micro-batch is as long as its longest text, once the loss has been learned from texts of one length."""
    torch.manual_seed(2)
    model = steady(Language(0.3))
    task = Task(loss_fn, padded(model), list(model.parameters()), together=to_one_length)
    same_gradient(task, cut(texts(WHOLE)[0], RAGGED))
    for sizes in (RAGGED, (4,) * 9, ONES):
        parts = texts(sizes)
        assert len({part["text"].shape[1] for part in parts}) > 2
        assert same_gradient(task, parts) <= {1, 2, 3}
        step(task)


# ------------------------------------------------------------------ what the others are held against


@pytest.mark.parametrize(("number", "by", "fails"), [(0, 1e-9, True), (1, 1e-6, True), (2, 1e3, False)])
def test_the_comparison_sees_a_small_error_and_not_rounding(number: int, by: float, fails: bool) -> None:
    """A weight, a bias a ten-thousandth as large, and one whose gradient is nothing but rounding."""
    expected = [normal(3, 4), 1e-4 * normal(4), 1e-16 * normal(4)]
    found = [grad.clone() for grad in expected]
    found[number][0] *= 1 + by
    if fails:
        with pytest.raises(AssertionError, match=f"parameter {number} is off"):
            same_gradients(found, expected, "here")
    else:
        same_gradients(found, expected, "here")
